"""Paths that people give: `~` and environment variables in them, whether they can be written or were fetched."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from hybatch.errors import UserError
from hybatch.leftovers import recover

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def expand_path(path: str, option: str) -> str:
    """`path` with `~`, `$NAME` and `${NAME}` expanded, without a slash at the end.

    Args:
        option: what a message calls the place where the path was given.

    Raises:
        UserError: the path is empty, or a variable is not set.
    """
    if not path:
        raise UserError(f"{option} is empty: give a path")
    expanded = os.path.expanduser(os.path.expandvars(path))
    if unset := re.search(r"\$(\w+|\{\w+\})", expanded):
        raise UserError(f"{option} {path!r}: the environment variable {unset.group()} is not set")
    return expanded.rstrip("/") or expanded


def cache_directory() -> Path:
    """Where what can be made again is kept: HYBATCH_CACHE_DIR, else ~/.cache/hybatch.

    Raises:
        RuntimeError: neither is set and the user has no home folder.
    """
    return Path(os.environ.get("HYBATCH_CACHE_DIR") or Path.home() / ".cache" / "hybatch")


def check_fetched(path: Path, name: str | None = None) -> None:
    """Check that a file is what its name says, and not the few lines that Git LFS leaves of one it has not fetched.

    Args:
        name: what the message calls the file; by default its path.

    Raises:
        UserError: it is such lines.
    """
    with open(path, "rb") as file:
        is_pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
    if is_pointer:
        raise UserError(
            f"{name or path}: holds no more than where Git LFS keeps the file: fetch it (git lfs install; git lfs pull)"
        )


def path_of(option: str) -> Callable[[str], Path]:
    """The `type` of a command-line option for argparse: a path, expanded.

    Shells leave `~` alone in `--output=~/results` and in quotes; without this a folder of that name would be made. An
    empty path, as `--output "$UNSET"` gives it, would be the working folder.
    """
    return lambda path: Path(expand_path(path, option))


def check_writable(directory: Path, option: str) -> None:
    """Check that a folder can be made or written into, by a file that vanishes at once; for before long work.

    What killed processes left half-written in it, or of it, is cleared away.

    Args:
        option: what a message calls the place where the folder was given.

    Raises:
        UserError: it or its parent is a file, or cannot be written.
    """
    recover(directory.parent, name=directory.name)
    recover(directory)
    existing = directory
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"{option} {directory}: {existing} is a file, not a folder")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{option} {directory}: {existing} cannot be written ({reason}); choose another folder"
        ) from error
