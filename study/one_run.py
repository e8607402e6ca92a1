"""One run of a study from its configuration to its record: train, evaluate the best encoder, record, tidy up.

Every stage finds out from the files whether it is done, so that a run goes on where it was stopped.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hybatch.atomic import atomic_file
from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import TASKS
from hybatch.evaluation.results import RESULTS
from hybatch.evaluation.settings.task import SETTINGS
from hybatch.evaluation.tasks.tatoeba import XQUAD_R_LANGUAGES
from hybatch.training.config import RunConfig, load_run_config
from hybatch.training.run.run_folder import RunFolder
from hybatch.training.survival.lock import folder_lock
from study.children import Children
from study.grid import GridRun
from study.record import (
    BACKBONE_CHANGED,
    BEST,
    backbone_sha256,
    changed_fields,
    evaluated_tasks,
    lacking,
    record_path,
    write_record,
)

LANGUAGES = {"tatoeba": XQUAD_R_LANGUAGES}
"""Task -> the languages to evaluate it in, where those are not all that it has."""
_BACKBONE = ".backbone.sha256"


@dataclass(frozen=True)
class PlannedRun:
    """A line of the grid and its places.

    Attributes:
        options: of the training, all of them.
        config: what they come to.
        folder: the training's output; evaluations are in its evaluation/.
        record: the file that is kept.
        tasks: to evaluate on.
        precision: --precision of the evaluations.
        keep_embeddings: whether embeddings/<task> of the folder keeps what the encoder gave.
    """

    grid: GridRun
    options: list[str]
    config: RunConfig
    folder: Path
    record: Path
    tasks: tuple[str, ...]
    precision: str = "float32"
    keep_embeddings: bool = False

    @property
    def name(self) -> str:
        return self.grid.name

    @property
    def evaluations(self) -> Path:
        return self.folder / "evaluation"


@dataclass(frozen=True)
class Remaining:
    """What is left to do of a run.

    Attributes:
        reasons: why it is not complete; empty: it is.
        outdated: why the files of an earlier training are of no use; empty: they are, or there are none.
        training: whether the training has to be begun or gone on with.
        tasks: to evaluate.
    """

    reasons: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)
    training: bool = False
    tasks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.reasons:
            return "complete"
        stages = ["train"] if self.training else []
        stages += [f"evaluate {task}" for task in self.tasks]
        because = f" ({'; '.join(self.outdated or self.reasons)})"
        return ", ".join([*stages, "record"]) + because


class RunFailed(Exception):
    """A stage of a run did not end well; says which and how."""


def plan_run(
    grid: GridRun,
    recipes: Sequence[Path],
    runs: Path,
    results: Path,
    tasks: Sequence[str],
    precision: str = "float32",
    keep_embeddings: bool = False,
) -> PlannedRun:
    """Settle a run's configuration.

    Args:
        recipes: what the line is laid over; each file is laid over those before.

    Raises:
        UserError: a recipe or a file of the line is malformed, or there is nothing to choose an encoder by.
    """
    folder = runs / grid.name
    laid_over = [word for recipe in recipes for word in ("--config", str(recipe))]
    options = [*laid_over, *grid.options, "--output_dir", str(folder)]
    config = load_run_config(options)
    if not config.validation.corpora:
        raise UserError(f"{grid.name}: validation.corpora is empty, but the study evaluates the encoder chosen by them")
    return PlannedRun(
        grid, options, config, folder, record_path(results, grid.name), tuple(tasks), precision, keep_embeddings
    )


def remaining(run: PlannedRun) -> Remaining:
    """Find out from the files what is left to do."""
    reasons = lacking(run.record, run.config, run.tasks)
    if not reasons:
        return Remaining()
    outdated = _outdated(run, reasons)
    if outdated or not RunFolder(run.config).is_finished:
        return Remaining(reasons, outdated, True, list(run.tasks))
    missing = sorted(set(run.tasks) - set(evaluated_tasks(run.evaluations)))
    return Remaining(reasons, [], False, missing)


def finish_run(run: PlannedRun, left: Remaining, children: Children, say: Callable[[str], None], *, lock: int) -> str:
    """Do what is left of a run; return a line on what it gave and how long it took.

    Args:
        lock: descriptor of the run's claim, which children hold too.

    Raises:
        RunFailed: a child ended with an error, which it printed.
        UserError: the backbone is missing, or what the children left cannot be recorded.
        Interrupted: a signal came; the same command goes on.
    """
    seconds = {}
    if left.training:
        sha256 = backbone_sha256(run.config)  # before anything is removed: without its backbone nothing can be trained
        if left.outdated:
            _discard(run, left.outdated, say)
        with atomic_file(run.folder / _BACKBONE) as file:
            file.write(f"{sha256}\n")
        seconds["training"] = _timed(_train, run, children, lock)
    if left.tasks:
        seconds["evaluation"] = _timed(_evaluate, run, left.tasks, children, lock)
    recorded = write_record(run.grid, run.folder, run.evaluations, run.record)
    _tidy(run)
    times = "".join(f", {stage} {duration(value)}" for stage, value in seconds.items())
    chosen = f"{recorded.selection_loss:.4f} at step {recorded.chosen_step} of {recorded.steps}"
    return f"selection loss {chosen}{times}"


def duration(seconds: float) -> str:
    """As a person says it: 45 s, 12 min 3 s, 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _train(run: PlannedRun, children: Children, lock: int) -> None:
    _run_child("training", [sys.executable, "-m", "hybatch.train", *run.options], children, lock)


def _evaluate(run: PlannedRun, tasks: Sequence[str], children: Children, lock: int) -> None:
    for task in tasks:
        command = [sys.executable, "-m", "hybatch", "evaluate", "--overwrite", "--model", str(run.folder / BEST)]
        command += ["--task", task, "--output", str(run.evaluations / task), "--precision", run.precision]
        if task in LANGUAGES:
            command += ["--languages", *LANGUAGES[task]]
        if run.keep_embeddings and TASKS[task].settings == SETTINGS:
            command += ["--save-embeddings", str(run.folder / "embeddings" / task)]
        _run_child(f"evaluation on {task}", command, children, lock)
        if not (run.evaluations / task / RESULTS).is_file():
            raise RunFailed(f"evaluation on {task} left no {RESULTS}")


def _run_child(stage: str, command: list[str], children: Children, lock: int) -> None:
    exit_code = children.run(command, holding=lock)
    if exit_code:
        ended = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
        raise RunFailed(f"{stage} {ended}; its own words are above")


def _timed(stage: Callable[..., None], *arguments: Any) -> float:
    started = time.perf_counter()
    stage(*arguments)
    return time.perf_counter() - started


def _outdated(run: PlannedRun, reasons: Sequence[str]) -> list[str]:
    """What makes the training in the run's folder another than the one that is asked for."""
    path, mark = run.folder / "config.yaml", run.folder / _BACKBONE
    if not path.is_file():
        return []
    try:
        changes = changed_fields(yaml.safe_load(path.read_text(encoding="utf-8")), run.config)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        return [f"{path} cannot be read ({error})"]
    if not mark.is_file():  # trained by others, who left nothing but the record, if that
        return changes + [reason for reason in reasons if reason == BACKBONE_CHANGED]
    try:
        if mark.read_text(encoding="utf-8").strip() != str(backbone_sha256(run.config)):
            changes.append(BACKBONE_CHANGED)
    except UserError:
        pass  # The backbone is not at hand, which is said where it is needed.
    return changes


def _discard(run: PlannedRun, reasons: Sequence[str], say: Callable[[str], None]) -> None:
    say(f"{run.name}: begins anew, {run.folder} is removed: {'; '.join(reasons)}")
    discarded = _discarded(run)
    with folder_lock(run.folder, say):
        shutil.rmtree(discarded, ignore_errors=True)
        # At once, or what a kill left of the folder would stand in the way of the training and of the record.
        run.folder.rename(discarded)
        shutil.rmtree(discarded)


def _discarded(run: PlannedRun) -> Path:
    return run.folder.with_name(f".{run.folder.name}.discarded")


def _tidy(run: PlannedRun) -> None:
    """Remove what only the training needs, but for final/, by which it knows that it is finished."""
    folder = RunFolder(run.config)
    for path in (folder.checkpoints.directory, folder.initial, _discarded(run)):
        shutil.rmtree(path, ignore_errors=True)
