"""Checkpoints that are whole or not there: written beside, synced, renamed, checked by their manifest before use.

The rename itself is `hybatch.atomic.replace_directory`.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from hybatch.atomic import replace_directory, replace_link, sync_tree
from hybatch.errors import UserError
from hybatch.leftovers import discard, recover
from hybatch.training.checkpoints.checkpoint import (
    MANIFEST,
    STATE,
    Checkpoint,
    Description,
    measure_files,
    read_checkpoint,
)

_STEP = re.compile(r"step-(\d+)")


class CheckpointFolder:
    """The checkpoints of a run: `step-XXXXXXXX` folders and, where the file system has links, `latest` to the newest.

    A checkpoint is written in a hidden folder: `begin` makes it, any number of processes fill it, `finish` makes it
    one of the checkpoints. All methods act for one process, the main one.
    """

    def __init__(self, directory: Path, *, keep: int, keep_every: int | None = None) -> None:
        """Name the folder, made when first needed, and the policy.

        Args:
            keep: number of newest checkpoints to keep.
            keep_every: those of steps that are multiples of it are kept for good; None: none.
        """
        self.directory = directory
        self.keep = keep
        self.keep_every = keep_every

    def clean(self) -> None:
        """Remove what a killed process left half-written or half-removed; make `latest` a link where it is none.

        The caller holds the run's lock.
        """
        recover(self.directory, alone=True)
        for leftover in self.directory.glob(".*"):
            discard(leftover)
        self._heal_latest()

    def steps(self) -> list[int]:
        """Steps of the checkpoints there, newest first, intact or not."""
        names = (_STEP.fullmatch(path.name) for path in self.directory.glob("step-*"))
        return sorted((int(name[1]) for name in names if name is not None), reverse=True)

    def path(self, step: int) -> Path:
        return self.directory / f"step-{step:08d}"

    def begin(self, step: int) -> Path:
        """Make the hidden folder of a checkpoint.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        partial = self.directory / f".step-{step:08d}.partial"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        except OSError as error:
            raise UserError(self.failure(step, error)) from error
        return partial

    def finish(self, partial: Path, description: Description) -> None:
        """Seal a hidden folder with its manifest, rename it, point `latest` at it, remove what the policy drops.

        Raises:
            UserError: the disk is full or the folder cannot be written; the checkpoints there are untouched.
        """
        step = description.step
        try:
            (partial / STATE).write_text(json.dumps(description.state, indent=1), encoding="utf-8")
            manifest = {
                "step": step,
                "model": description.model,
                "corpora": description.fingerprints,
                "surroundings": asdict(description.surroundings),
                "backbone_weights": description.backbone_weights,
                "files": measure_files(partial),
            }
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            sync_tree(partial)
            replace_directory(partial, self.path(step))
            self._link_latest(step)
        except OSError as error:
            self.abandon(partial)
            raise UserError(self.failure(step, error)) from error
        for old in self.steps()[self.keep :]:
            if self.keep_every is None or old % self.keep_every:
                self._remove(old)

    def abandon(self, partial: Path) -> None:
        shutil.rmtree(partial, ignore_errors=True)

    def newest_intact(self, say: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint whose files have the sizes and checksums of its manifest.

        Damaged ones that are newer are named and, where there is an intact one, renamed to `damaged-step-XXXXXXXX`:
        `latest` and the policy then speak of intact checkpoints only.
        """
        damaged = []
        for step in self.steps():
            try:
                checkpoint = read_checkpoint(self.path(step))
            except UserError as error:
                say(f"{error}; trying the one before")
                damaged.append(step)
            else:
                for newer in damaged:
                    self._set_aside(self.path(newer))
                self._link_latest(step)
                return checkpoint
        return None

    def failure(self, step: int, error: OSError) -> str:
        """Say why the checkpoint of `step` could not be written, and which is the last good one."""
        cause = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error.strerror or error)
        others = [old for old in self.steps() if old != step]
        last = f"the last good checkpoint is {self.path(others[0])}" if others else "there is no earlier checkpoint"
        return f"cannot write {self.path(step)}: {cause}; {last}"

    def _remove(self, step: int) -> None:
        """Under a hidden name first: a process killed half-way must not leave a folder that looks like a checkpoint."""
        retired = self.directory / f".step-{step:08d}.retired"
        self.path(step).rename(retired)
        shutil.rmtree(retired, ignore_errors=True)

    def _heal_latest(self) -> None:
        """A copy that followed links (`cp -rL`, some archives) holds a whole checkpoint there, or a file.

        It is kept where its step is missing or damaged, and is one too many otherwise.
        """
        latest = self.directory / "latest"
        if latest.is_symlink() or not latest.exists():
            return
        try:
            step = read_checkpoint(latest).step
        except UserError:
            self._set_aside(latest)
            return
        try:
            read_checkpoint(self.path(step))
        except UserError:
            self._set_aside(self.path(step))
            latest.rename(self.path(step))
        else:
            discard(latest)

    def _set_aside(self, damaged: Path) -> None:
        if damaged.exists():
            aside = damaged.with_name(f"damaged-{damaged.name}")
            discard(aside)
            damaged.rename(aside)

    def _link_latest(self, step: int) -> None:
        replace_link(self.directory / "latest", self.path(step).name)
