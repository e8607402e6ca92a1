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
    """Where what can be made again is kept: HYBATCH_CACHE_DIR, expanded, else ~/.cache/hybatch.

    Raises:
        UserError: a variable in it is not set.
        RuntimeError: neither is set and the user has no home folder.
    """
    given = os.environ.get("HYBATCH_CACHE_DIR")
    return Path(expand_path(given, "HYBATCH_CACHE_DIR")) if given else Path.home() / ".cache" / "hybatch"


def last_part(path_or_hub_id: str) -> str:
    """What a folder, or a model of the hub, is called: the last part of its path, of `.` and `..` too."""
    return Path(os.path.abspath(os.path.expanduser(path_or_hub_id))).name


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


def folder_of(option: str) -> Callable[[str], Path]:
    """As `path_of`, of a folder that appears whole: where the path is a link, what it points at.

    Such a folder takes the name that it is given (`hybatch.atomic.atomic_directory`): that of the link, which would be
    gone, and the files would lie beside it and not on the disk that it leads to.
    """
    read = path_of(option)

    def followed(path: str) -> Path:
        place = read(path)
        return Path(os.path.realpath(place)) if place.is_symlink() else place

    return followed


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
        if existing.is_symlink():
            raise UserError(
                f"{option} {directory}: {existing} is a link that points to nothing; mend it or take it away"
            )
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


def check_replaceable(directory: Path, option: str) -> None:
    """Check that a folder that appears whole can take its name: as `check_writable`, and for what stands there now.

    Raises:
        UserError: as of `check_writable`, or a file system is mounted there, or the folder's parent cannot be written.
    """
    check_writable(directory, option)
    if not directory.exists():
        return
    if _is_mount_point(directory):
        raise UserError(
            f"{option} {directory}: a file system is mounted there, whose folder cannot be replaced; give a new folder "
            f"in it, such as {directory / 'new'}"
        )
    try:
        with tempfile.TemporaryFile(dir=directory.absolute().parent):
            pass
    except OSError as error:
        raise UserError(
            f"{option} {directory}: is replaced as a whole, but the folder around it cannot be written "
            f"({error.strerror or error}); give a new folder in it, such as {directory / 'new'}"
        ) from error


def check_new_folder(directory: Path, option: str) -> None:
    """Check that a folder can be made that was not there, or was empty.

    Raises:
        UserError: as of `check_replaceable`, or it holds something.
    """
    check_replaceable(directory, option)
    if directory.exists() and any(directory.iterdir()):
        raise UserError(f"{option} {directory}: is there already; choose another folder, or remove it")


def _is_mount_point(folder: Path) -> bool:
    """Also of a folder of the same file system that is mounted there (`mount --bind`, a container's volume)."""
    place = os.path.realpath(folder)
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            mounted = {line.split()[4] for line in file}
    except OSError:  # no Linux
        return os.path.ismount(place)
    return re.sub(rb"[ \t\n\\]", lambda sign: b"\\%03o" % ord(sign[0]), os.fsencode(place)) in mounted
