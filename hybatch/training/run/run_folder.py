"""The output folder of a run: whose it is, whether it can be written, what may differ when a run goes on."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from hybatch.atomic import write_text
from hybatch.errors import UserError
from hybatch.leftovers import recover
from hybatch.paths import expand_path
from hybatch.processes import fail_together, rank, run_on_main, world_size
from hybatch.training.checkpoints.checkpoint import Checkpoint
from hybatch.training.checkpoints.folder import CheckpointFolder
from hybatch.training.config import RunConfig
from hybatch.training.flat import flatten
from hybatch.training.survival.lock import folder_lock
from hybatch.training.written_config import with_defaults

CONFIG = "config.yaml"
_MARK = ".shared-"
_APPEARS_SECONDS = 15.0

# Where a run goes on, these may be other than before: they say where things are, how often they are written and how
# the work is shared, not what is computed. Corpora are compared by their content. Chunks draw other dropout, of the
# same kind: a run that met a batch too large for its memory could not go on otherwise.
_FREE = re.compile(
    r"output_dir"
    r"|training\.(resume|checkpoint_\w+|keep_\w+|log_every|trackers(\.\d+)?|save_initial|threads|strategy)"
    r"|training\.chunk_(size|tokens)"
    r"|training\.(on_nonfinite|max_skipped_steps|timeout_minutes|heartbeat_seconds)"
    r"|loss\.gather"
    r"|(validation\.)?corpora\.\d+\.path"
    r"|validation\.(count_shared_texts|tasks\.\d+\.(data_dir|batch_size))"
)


class RunFolder:
    """Paths below the output folder.

    Raises:
        UserError: the configuration's output_dir names a variable that is not set.
    """

    def __init__(self, config: RunConfig) -> None:
        directory = Path(expand_path(config.output_dir, "output_dir"))
        self.directory = directory
        self.config = directory / CONFIG
        self.metrics = directory / "metrics.jsonl"
        self.initial = directory / "initial"
        self.best = directory / "best"
        self.tensorboard = directory / "tensorboard"
        self.final = directory / "final"
        self.checkpoints = CheckpointFolder(
            directory / "checkpoints",
            keep=config.training.keep_checkpoints,
            keep_every=config.training.keep_every_steps,
        )

    @property
    def has_results(self) -> bool:
        """Whether there is more than the configuration of a run that ended before its first step."""
        return any(path.name != CONFIG and not path.name.startswith(".") for path in self.directory.iterdir())

    @property
    def is_finished(self) -> bool:
        return self.final.exists()


@contextmanager
def claimed(folder: RunFolder, config: RunConfig, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the output folder for this run: a new or empty one, or one that holds a run of the same configuration.

    Args:
        say: told where the file system cannot keep other runs out.

    Raises:
        UserError: the folder holds something else or another run (the fields that differ are named), is held by another
            run, or cannot be written.
    """
    directory = folder.directory
    if directory.exists() and not directory.is_dir():
        raise UserError(f"output_dir {directory} is a file: name a folder")
    if directory.exists() and folder.has_results and not folder.config.exists():
        raise UserError(f"output_dir {directory} holds files but no run ({CONFIG} is missing): name a new folder")
    with folder_lock(directory, say) as is_alone:
        recover(directory, alone=is_alone)
        _check_kinds(folder)
        if folder.config.exists() and folder.has_results:
            _check_same_run(folder, config)
        write_text(folder.config, yaml.safe_dump(config.as_dict(), sort_keys=False, allow_unicode=True))
        if folder.checkpoints.directory.exists():
            folder.checkpoints.clean()
        yield


def check_shared(folder: RunFolder) -> None:
    """See to it that all processes have one output folder, before the first checkpoint finds it missing; collective.

    Raises:
        UserError: on every process, naming one that has another or none.
    """
    if world_size() == 1:
        return
    name, there = run_on_main(lambda: (_leave_mark(folder.directory), f"{folder.directory} on {socket.gethostname()}"))
    mark = folder.directory / name
    try:
        problem = None
        if not _appears(mark):
            problem = (
                f"output_dir is {folder.directory} on {socket.gethostname()} (process {rank()}), which is not the "
                f"{there} of process 0: all processes write and read checkpoints there; name a folder that all of them "
                "share"
            )
        fail_together(problem)
    finally:
        if rank() == 0:
            mark.unlink(missing_ok=True)


def _leave_mark(directory: Path) -> str:
    for left in directory.glob(f"{_MARK}*"):  # by a process that was killed just then
        left.unlink(missing_ok=True)
    name = f"{_MARK}{os.urandom(8).hex()}"  # a new one, which no machine remembers to be missing
    write_text(directory / name, "for a moment, by which the other processes know the folder\n")
    return name


def _appears(path: Path) -> bool:
    """Whether a file is there, or comes to be soon: file systems of several machines may tell of it late."""
    deadline = time.monotonic() + _APPEARS_SECONDS
    while not path.exists():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)
    return True


def resume_from(
    folder: RunFolder, fingerprints: dict[str, str], model: dict[str, Any], say: Callable[[str], None]
) -> Checkpoint | None:
    """The checkpoint to go on from, or None to start anew.

    Args:
        fingerprints: of the corpora, by their place in the configuration.
        model: what the encoder is, by name.
        say: told about damaged checkpoints that are passed over.

    Raises:
        UserError: the checkpoint was written on other corpora or for another model, or all checkpoints are damaged.
    """
    checkpoint = folder.checkpoints.newest_intact(say)
    if checkpoint is None and folder.checkpoints.steps():
        raise UserError(f"every checkpoint in {folder.checkpoints.directory} is damaged: remove them to start anew")
    if checkpoint is not None and checkpoint.fingerprints != fingerprints:
        before = checkpoint.fingerprints
        changed = [name for name in sorted(before.keys() | fingerprints) if before.get(name) != fingerprints.get(name)]
        raise UserError(
            f"{checkpoint.directory} was trained on other data: the content of {', '.join(changed)} has changed; "
            "restore it or name a new output_dir"
        )
    if checkpoint is not None and (differences := differing_fields(checkpoint.model, model)):
        raise UserError(
            f"{checkpoint.directory} is a checkpoint of another model:\n  "
            + "\n  ".join(differences)
            + "\nrestore model.backbone or name a new output_dir"
        )
    return checkpoint


def _check_kinds(folder: RunFolder) -> None:
    """Refuse a folder where a run has a file, and the other way round, before they stop it at its end."""
    folders = (folder.initial, folder.best, folder.final, folder.checkpoints.directory, folder.tensorboard)
    for path in (folder.config, folder.metrics, *folders):
        if path.exists() and path.is_dir() != (path in folders):
            found, wanted = ("folder", "file") if path.is_dir() else ("file", "folder")
            raise UserError(f"{path} is a {found}, where a run has a {wanted}: move it away, or name a new output_dir")


def _check_same_run(folder: RunFolder, config: RunConfig) -> None:
    if config.training.resume == "never":
        raise UserError(f"output_dir {folder.directory} holds a run and training.resume is never: name a new folder")
    try:
        before = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{folder.config} cannot be read ({error}): name a new output_dir") from error
    if not isinstance(before, dict):
        raise UserError(f"{folder.config} cannot be read (it holds no options): name a new output_dir")
    _keep_padding(before, config)
    _follow_backbone(before, config)
    if config.validation.metric == "map" and isinstance(before.get("validation"), dict):
        before["validation"]["batch_size"] = config.validation.batch_size  # texts that are encoded at once
    differences = differing_fields(with_defaults(before), config.as_dict())
    if differences:
        raise UserError(
            f"output_dir {folder.directory} holds a run with another configuration:\n  "
            + "\n  ".join(differences)
            + "\nname a new output_dir, or take the values of its "
            + CONFIG
        )


def _keep_padding(before: dict[str, Any], config: RunConfig) -> None:
    """Let a run go on with padded texts that began with them, or before there was a choice: dropout is drawn alike."""
    model = before.get("model")
    if isinstance(model, dict) and model.setdefault("unpad", "never") == "never" and config.model.unpad == "auto":
        config.model.unpad = "never"


def _follow_backbone(before: dict[str, Any], config: RunConfig) -> None:
    """Let a run go on whose backbone has moved, to a folder of the same name.

    Whether it holds the same weights there is looked at when the checkpoint is read.
    """
    model, now = before.get("model"), config.model.backbone
    if not isinstance(model, dict) or not isinstance(then := model.get("backbone"), str) or now is None:
        return
    if Path(then).name == Path(now).name and Path(expand_path(now, "model.backbone")).is_dir():
        model["backbone"] = now


def differing_fields(before: Any, now: Any) -> list[str]:
    """Name the fields that differ between two configurations, other than those that may: "loss.symmetric: x, now y"."""
    old, new = flatten(before), flatten(now)
    missing = "nothing"
    return [
        f"{name}: was {old.get(name, missing)!r}, now {new.get(name, missing)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, missing) != new.get(name, missing) and not _FREE.fullmatch(name)
    ]
