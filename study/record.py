"""The record of a run, which is what is kept of it: RESULTS/<name of the grid's line>.record.json.

It holds what the run was (start, sampling, seed, chosen step, configuration, versions, commit), its losses and
validations, its results on every task, and the figures of each parallel question of tasks that have language pairs;
`hybatch/reporting/grids/record_file.py` describes the file.

As a program it records the runs of a grid that were trained and evaluated otherwise, as by the arrays of slurm/:

    python study/record.py GRID --runs DIR --evaluations DIR --results DIR
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__" and not __package__:
    # Run as a file, this folder comes first on the path; the checkout makes `study` and `slurm` importable.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from hybatch.corpus import open_corpus
from hybatch.errors import UserError
from hybatch.evaluation.results import RESULTS
from hybatch.evaluation.settings.per_query import PER_QUERY, read_query_tables
from hybatch.models.folder.finding import locate
from hybatch.models.folder.layout import read_layout
from hybatch.reporting.grids.record_file import read_record_config, write_record_file
from hybatch.reporting.grids.records import QUESTION_FIGURES, RECORD, QuestionFigures, Run, ids_digest
from hybatch.reporting.results import PairResults, Results, read_results
from hybatch.reporting.run_metrics import METRICS
from hybatch.reporting.samplings import HYBRID, SCHEDULED
from hybatch.sampling import SamplingConfig, ShareSchedule
from hybatch.sampling.config import phases_of, shares_of, training_languages
from hybatch.sampling.kinds import CROSS_LINGUAL, KINDS, MONOLINGUAL
from hybatch.training.checkpoints.surroundings import surroundings
from hybatch.training.config import RunConfig, load_run_config
from hybatch.training.flat import flatten
from hybatch.training.run.run_folder import RunFolder, differing_fields
from hybatch.training.survival.stopping import BestSoFar
from hybatch.training.written_config import with_defaults
from study.grid import GridRun, read_grid
from study.questions import question_tables

ROOT = Path(__file__).resolve().parent.parent
BEST = "best"
BACKBONE_CHANGED = "the backbone's weights have changed"
_CORPUS_PATH = re.compile(r"(validation\.)?corpora\.\d+\.path")


def record_path(results: Path, name: str) -> Path:
    """Where the record of a run stands."""
    return results / f"{name}{RECORD}"


def write_record(run: GridRun, run_folder: Path, evaluations: Path, record: Path) -> Run:
    """Record a finished run that is evaluated; the file appears, or replaces its forerunner, whole or not at all.

    Args:
        run: the line of the grid.
        run_folder: the training's output folder.
        evaluations: folder of <task>/results.json; every task there is recorded.
        record: the file to write.

    Raises:
        UserError: the run is not finished or has chosen no encoder, a file is missing or malformed, results are not of
            the run's best encoder, or the record cannot be written.
    """
    config = load_run_config(["--config", str(run_folder / "config.yaml")])
    folder = RunFolder(config)
    if not (run_folder / folder.final.name).is_dir():
        raise UserError(f"{run_folder}: the training is not finished; the same command goes on with it")
    results = {task: _checked_results(evaluations / task, run_folder) for task in evaluated_tasks(evaluations)}
    if not results:
        raise UserError(f"{evaluations}: no task is evaluated (<task>/{RESULTS})")
    pairs = {task: one for task, one in results.items() if isinstance(one, PairResults)}
    languages = {language for one in pairs.values() for language in one.languages}
    recorded = _recorded(run, config, tuple(_reduced(run_folder / METRICS)), languages)
    questions = {task: _questions(evaluations / task / PER_QUERY) for task in pairs}
    recorded = replace(recorded, results=results, questions=questions, path=record)
    write_record_file(recorded, record)
    return recorded


def evaluated_tasks(folder: Path) -> list[str]:
    """The tasks whose results stand in a folder of evaluations."""
    return sorted(path.parent.name for path in folder.glob(f"*/{RESULTS}"))


def lacking(record: Path, config: RunConfig, tasks: Sequence[str]) -> list[str]:
    """What keeps a record from being that of this configuration on these tasks; empty: it is complete.

    A backbone that is not at hand is taken for the one that was recorded.
    """
    if not record.exists():
        return ["no record"]
    try:
        before, recorded, evaluated = read_record_config(record)
        changes = changed_fields(before, config)
    except (UserError, ValueError, KeyError, TypeError, AttributeError):
        return [f"{record} is malformed"]
    try:
        if backbone_sha256(config) != recorded:
            changes.append(BACKBONE_CHANGED)
    except UserError:
        pass
    return changes + [f"{task} is not recorded" for task in sorted(set(tasks) - set(evaluated))]


def changed_fields(before: Any, config: RunConfig) -> list[str]:
    """The fields in which a configuration differs from one that was written, but for those that do not change results.

    Where a run goes on, corpora may have moved, since their content is compared; here the path stands for the content.
    """
    now = config.as_dict()
    old = flatten(before)
    if config.training.mixed_precision == "auto":  # a run is one of it, whatever it came to where that was trained
        now["training"]["mixed_precision"] = old.get("training.mixed_precision", "no")
    new = flatten(now)
    moved = [
        name for name in sorted(old.keys() & new.keys()) if _CORPUS_PATH.fullmatch(name) and old[name] != new[name]
    ]
    return differing_fields(with_defaults(before), now) + [
        f"{name}: was {old[name]!r}, now {new[name]!r}" for name in moved
    ]


def backbone_sha256(config: RunConfig) -> str | None:
    """SHA-256, in hex, of the weights that the run starts from, a sharded model's files one after the other.

    Returns:
        None for a backbone of random weights.

    Raises:
        UserError: the backbone is missing, or has no weights in safetensors.
    """
    if config.model.backbone is None:
        return None
    folder = read_layout(locate(config.model.backbone)).backbone_folder
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise UserError(f"{folder}: holds no model.safetensors, by which results tell their backbone")
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _recorded(run: GridRun, config: RunConfig, rows: Sequence[Mapping[str, Any]], languages: set[str]) -> Run:
    """The run without its results; `languages` are those of the tasks."""
    best = chosen(config, rows)
    seen = {language for one in config.corpora for language in open_corpus(one, progress=False).languages}
    sampling, alpha = sampling_name(config.sampling)
    return Run(
        name=run.name,
        start=run.start,
        backbone_sha256=backbone_sha256(config),
        sampling=sampling,
        alpha=alpha,
        seed=config.seed,
        unseen_languages=tuple(sorted(languages - set(training_languages(config.sampling, seen)))),
        steps=config.training.steps,
        chosen_step=best.step,
        selection_loss=best.value,
        config=config.as_dict(),
        versions=surroundings(torch.device("cpu"), "").versions,
        commit=_commit(),
        results={},
        questions={},
        curve=rows,
        path=Path(),
    )


def _questions(per_query: Path) -> QuestionFigures:
    tables = question_tables(read_query_tables(per_query))
    digest = ids_digest(tables["ids"].tolist())
    return QuestionFigures(ids_sha256=digest, **{name: tables[name] for name in QUESTION_FIGURES})


def sampling_name(sampling: SamplingConfig) -> tuple[str, float | None]:
    """What a record calls a sampling, and alpha where that is the constant share of X-X-mono beside X-Y batches.

    A hybrid whose alpha changes over the run is "hybrid-scheduled"; other mixtures and phases are called by their
    shares, "hybrid x-y 0.6, x-en 0.4".
    """
    if sampling.kind == "sequential" and (sampling.phases is not None or sampling.share != SamplingConfig.share):
        return _in_words("sequential", [(phase.kind, phase.share) for phase in phases_of(sampling)]), None
    if sampling.kind != HYBRID:
        return sampling.kind, None
    shares = shares_of(sampling)
    alpha = shares.get(MONOLINGUAL, 0.0)
    if shares.keys() <= {MONOLINGUAL, CROSS_LINGUAL} and not isinstance(alpha, ShareSchedule):
        return HYBRID, alpha
    if sampling.mixture is None:
        return SCHEDULED, None
    return _in_words(HYBRID, [(kind, shares[kind]) for kind in KINDS if kind in shares]), None


def _in_words(name: str, shares: Iterable[tuple[str, float | ShareSchedule]]) -> str:
    ends = ((kind, (one.start, one.end) if isinstance(one, ShareSchedule) else (one,)) for kind, one in shares)
    return f"{name} " + ", ".join(f"{kind} {' to '.join(f'{end:g}' for end in each)}" for kind, each in ends)


def chosen(config: RunConfig, rows: Sequence[Mapping[str, Any]]) -> BestSoFar:
    """The validation whose encoder is in best/, found as the training found it.

    Raises:
        UserError: there was no validation.
    """
    best = BestSoFar(larger_is_better=config.validation.metric == "map", from_step=config.select_from_step())
    for row in rows:
        if "validation" in row:
            best.update(row["validation"]["selection"], row["step"])
    if best.value is None:
        raise UserError("no encoder was chosen: a study needs validation.corpora")
    return best


def _reduced(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            row = json.loads(line)
            if "validation" in row:
                yield {"step": row["step"], "validation": row["validation"]}
            elif "loss" in row:
                yield {name: row[name] for name in ("step", "kind", "loss")}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the metrics of a training run ({error!r})") from error


def _checked_results(evaluation: Path, run_folder: Path) -> Results:
    path = evaluation / RESULTS
    results = read_results(path)
    if Path(results.model).parts[-2:] != (run_folder.name, BEST):
        raise UserError(f"{path}: results of {results.model}, not of {run_folder / BEST}: evaluate that one")
    return results


def _commit() -> str | None:
    """The checkout's commit, with "+" where the program or its recipes differ from it; None outside of a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "hybatch", "csrc", "configs", "study")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """Record what a grid has; 0: all runs are recorded, 1: some are not and are named, 2: bad input."""
    parser = argparse.ArgumentParser(description="Record the finished and evaluated runs of a grid.")
    parser.add_argument("grid", type=Path, help="such as those of study/grids")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="<name>/: a training's output")
    parser.add_argument(
        "--evaluations", type=Path, required=True, metavar="DIR", help="<name>/<task>/: an evaluation of <name>/best"
    )
    parser.add_argument("--results", type=Path, required=True, metavar="DIR", help=f"where <name>{RECORD} is written")
    arguments = parser.parse_args(argv)
    try:
        runs = read_grid(arguments.grid)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = 0
    for run in runs:
        folder, evaluations = arguments.runs / run.name, arguments.evaluations / run.name
        try:
            config = load_run_config(["--config", str(folder / "config.yaml")])
            record = record_path(arguments.results, run.name)
            if lacking(record, config, evaluated_tasks(evaluations)):
                write_record(run, folder, evaluations, record)
        except UserError as error:
            print(f"error: {run.name}: {error}", file=sys.stderr)
            failed += 1
    print(f"{len(runs) - failed} of {len(runs)} runs are recorded in {arguments.results}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
