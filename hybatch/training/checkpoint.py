"""Checkpoints that are whole or not there: written beside, synced, renamed, checked by their manifest before use."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import accelerate
import numpy
import tokenizers
import torch
import transformers

from hybatch.atomic import atomic_directory, atomic_file
from hybatch.errors import UserError
from hybatch.losses.gather import world_size
from hybatch.version import __version__

MANIFEST = "manifest.json"
STATE = "state.json"


@dataclass(frozen=True)
class Surroundings:
    """What a run must have in common with another for its numbers to be the same bit for bit."""

    processes: int
    threads: int
    device: str
    versions: dict[str, str]

    def differences(self, other: Surroundings) -> list[str]:
        """Say what changed from `self` to `other`, e.g. "threads 2 -> 1"."""
        mine, theirs = self._flat(), other._flat()
        names = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
        return [f"{name} {mine.get(name)} -> {theirs.get(name)}" for name in names]

    def _flat(self) -> dict[str, Any]:
        return {"processes": self.processes, "threads": self.threads, "device": self.device, **self.versions}


def surroundings(device: torch.device) -> Surroundings:
    """Those of this process."""
    modules = (torch, transformers, tokenizers, accelerate, numpy)
    versions = {"python": platform.python_version(), "hybatch": __version__}
    versions |= {module.__name__: str(module.__version__) for module in modules}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Surroundings(world_size(), torch.get_num_threads(), name, versions)


@dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint.

    Attributes:
        directory: its folder.
        step: optimiser steps done.
        state: what the loop keeps besides weights and optimizer.
        fingerprints: of the corpora, by their place in the configuration.
        surroundings: of the run that wrote it.
    """

    directory: Path
    step: int
    state: dict[str, Any]
    fingerprints: dict[str, str]
    surroundings: Surroundings


class CheckpointFolder:
    """The checkpoints of a run: `step-XXXXXXXX` folders and `latest`, a link to the newest."""

    def __init__(self, directory: Path, *, keep: int) -> None:
        self.directory = directory
        self.keep = keep

    def clean(self) -> None:
        """Remove what a killed process left half-written."""
        for leftover in self.directory.glob(".*"):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """Steps of the checkpoints there, newest first, intact or not."""
        return sorted((int(path.name.removeprefix("step-")) for path in self.directory.glob("step-*")), reverse=True)

    def path(self, step: int) -> Path:
        return self.directory / f"step-{step:08d}"

    def write(
        self,
        step: int,
        save: Callable[[Path], None],
        *,
        state: dict[str, Any],
        fingerprints: Mapping[str, str],
        where: Surroundings,
    ) -> None:
        """Write a checkpoint through `save`, point `latest` at it and remove those beyond `keep`.

        Raises:
            UserError: the disk is full or the folder cannot be written; the checkpoints there are untouched.
        """
        try:
            with atomic_directory(self.path(step)) as folder:
                save(folder)
                (folder / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
                manifest = {
                    "step": step,
                    "corpora": dict(fingerprints),
                    "surroundings": asdict(where),
                    "files": {path.name: _measure(path) for path in sorted(folder.iterdir())},
                }
                (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            self._link_latest(step)
        except OSError as error:
            raise UserError(self._failed(step, error)) from error
        for old in self.steps()[self.keep :]:
            shutil.rmtree(self.path(old), ignore_errors=True)

    def newest_intact(self, say: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint whose files have the sizes and checksums of its manifest; damaged ones are named."""
        for step in self.steps():
            try:
                return read_checkpoint(self.path(step))
            except UserError as error:
                say(f"{error}; trying the one before")
        return None

    def _link_latest(self, step: int) -> None:
        beside = self.directory / ".latest"
        beside.unlink(missing_ok=True)
        beside.symlink_to(self.path(step).name)
        os.replace(beside, self.directory / "latest")

    def _failed(self, step: int, error: OSError) -> str:
        cause = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error.strerror or error)
        others = [old for old in self.steps() if old != step]
        last = f"the last good checkpoint is {self.path(others[0])}" if others else "there is no earlier checkpoint"
        return f"cannot write {self.path(step)}: {cause}; {last}"


def read_checkpoint(directory: Path) -> Checkpoint:
    """Check a checkpoint against its manifest.

    Raises:
        UserError: a file is missing or damaged; the message names it.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        for name, expected in manifest["files"].items():
            if _measure(directory / name) != expected:
                raise UserError(f"checkpoint {directory} is damaged: {name} is not the file that was written")
        state = json.loads((directory / STATE).read_text(encoding="utf-8"))
        where = Surroundings(**manifest["surroundings"])
        return Checkpoint(directory, manifest["step"], state, manifest["corpora"], where)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"checkpoint {directory} is damaged: {error}") from error


def _measure(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def write_text(path: Path, text: str) -> None:
    """Replace a small file, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with atomic_file(path) as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
