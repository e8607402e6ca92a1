"""Checkpoints that are whole or not there: written beside, synced, renamed, checked by their manifest before use."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import accelerate
import numpy
import tokenizers
import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor

from hybatch.atomic import atomic_file, replace_directory, sync_tree
from hybatch.errors import UserError
from hybatch.models import Encoder
from hybatch.processes import world_size
from hybatch.version import __version__

MANIFEST = "manifest.json"
STATE = "state.json"


@dataclass(frozen=True)
class Surroundings:
    """What a run must have in common with another for its numbers to be the same bit for bit."""

    processes: int
    threads: int
    strategy: str
    device: str
    versions: dict[str, str]

    def differences(self, other: Surroundings) -> list[str]:
        """Say what changed from `self` to `other`, e.g. "threads 2 -> 1"."""
        mine, theirs = self._flat(), other._flat()
        names = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
        return [f"{name} {mine.get(name)} -> {theirs.get(name)}" for name in names]

    def _flat(self) -> dict[str, Any]:
        named = asdict(self)
        return {**{name: named[name] for name in ("processes", "threads", "strategy", "device")}, **self.versions}


def surroundings(device: torch.device, strategy: str) -> Surroundings:
    """Those of this process; `strategy` by its name."""
    modules = (torch, transformers, tokenizers, accelerate, numpy)
    versions = {"python": platform.python_version(), "hybatch": __version__}
    versions |= {module.__name__: str(module.__version__) for module in modules}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Surroundings(world_size(), torch.get_num_threads(), strategy, name, versions)


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of itself besides weights and optimizer.

    Attributes:
        step: optimiser steps done.
        state: what the loop keeps; plain JSON.
        model: what the encoder is, by name (see `describe_model`).
        fingerprints: of the corpora, by their place in the configuration.
        surroundings: of the run that wrote it.
        backbone_weights: which weights the run started from, before its first step (see `backbone_weights`); empty
            where that is not known.
    """

    step: int
    state: dict[str, Any]
    model: dict[str, Any]
    fingerprints: dict[str, str]
    surroundings: Surroundings
    backbone_weights: dict[str, str]


@dataclass(frozen=True)
class Checkpoint(Description):
    """An intact checkpoint.

    Attributes:
        directory: its folder.
    """

    directory: Path


class CheckpointFolder:
    """The checkpoints of a run: `step-XXXXXXXX` folders and `latest`, a link to the newest.

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
        """Remove what a killed process left half-written or half-removed."""
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
                "files": _measure_all(partial),
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
                    aside = self.directory / f"damaged-{self.path(newer).name}"
                    shutil.rmtree(aside, ignore_errors=True)
                    self.path(newer).rename(aside)
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

    def _link_latest(self, step: int) -> None:
        beside = self.directory / ".latest"
        beside.unlink(missing_ok=True)
        beside.symlink_to(self.path(step).name)
        os.replace(beside, self.directory / "latest")


def read_checkpoint(directory: Path) -> Checkpoint:
    """Check a checkpoint against its manifest.

    Raises:
        UserError: a file is missing or damaged; the message names it.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        measured = _measure_all(directory)
        for name, expected in manifest["files"].items():
            if measured.get(name) != expected:
                raise UserError(f"checkpoint {directory} is damaged: {name} is not the file that was written")
        state = json.loads((directory / STATE).read_text(encoding="utf-8"))
        return Checkpoint(
            step=manifest["step"],
            state=state,
            model=manifest["model"],
            fingerprints=manifest["corpora"],
            surroundings=Surroundings(**manifest["surroundings"]),
            backbone_weights=manifest.get("backbone_weights", {}),  # earlier versions did not write them
            directory=directory,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"checkpoint {directory} is damaged: {error}") from error


def _measure_all(directory: Path) -> dict[str, dict[str, Any]]:
    """Size and checksum of every file below `directory`, by its path from there; several files at a time."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    with ThreadPoolExecutor(max_workers=4) as pool:
        names = [path.relative_to(directory).as_posix() for path in files]
        return dict(zip(names, pool.map(_measure, files), strict=True))


def _measure(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def describe_model(encoder: Encoder) -> dict[str, Any]:
    """What makes an encoder's weights belong to it: its backbone's configuration and its vocabulary.

    A local backbone keeps its path when its content is exchanged, so that the run's configuration does not tell.
    """
    config = json.loads(encoder.backbone.config.to_json_string(use_diff=True))
    unrelated = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
    fields = {name: value for name, value in sorted(config.items()) if name not in unrelated}
    vocabulary = json.dumps(sorted(encoder.tokenizer.get_vocab().items()), ensure_ascii=False)
    return {**fields, "vocabulary": hashlib.sha256(vocabulary.encode()).hexdigest()[:16]}


def save_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write a state dict.

    Raises:
        OSError: the disk is full or the folder cannot be written; torch's own writer hides that behind another error.
    """
    try:
        with open(path, "wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def save_encoder(encoder: Encoder, directory: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
    """Write an encoder's folder, whole or not at all.

    Args:
        state_dict: the whole encoder's weights, where `encoder` holds only a shard of them.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    try:
        encoder.save(directory, state_dict)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {directory}: {error}; finished checkpoints are intact") from error


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
