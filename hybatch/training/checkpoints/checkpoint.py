"""What a checkpoint says of itself, and whether its files are those that its manifest lists."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybatch.errors import UserError
from hybatch.training.checkpoints.surroundings import Surroundings

MANIFEST = "manifest.json"
STATE = "state.json"


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


def read_checkpoint(directory: Path) -> Checkpoint:
    """Check a checkpoint against its manifest.

    Raises:
        UserError: a file is missing or damaged; the message names it.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        measured = measure_files(directory)
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


def measure_files(directory: Path) -> dict[str, dict[str, Any]]:
    """Size and checksum of every file below `directory`, by its path from there; several files at a time."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    with ThreadPoolExecutor(max_workers=4) as pool:
        names = [path.relative_to(directory).as_posix() for path in files]
        return dict(zip(names, pool.map(_measure, files), strict=True))


def _measure(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}
