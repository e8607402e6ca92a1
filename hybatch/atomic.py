"""Files and folders that appear whole or not at all: written beside, synced, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from hybatch.errors import UserError

# What no retry mends: the disk is full, or the folder may not be written.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial-{os.getpid()}")


@contextmanager
def atomic_file(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing that replaces `path` only once the block ends without an exception.

    Text is UTF-8 with "\\n" line ends on every system. Missing parent folders are made.

    Raises:
        OSError: the folder cannot be written or the disk is full; `path` is then as it was before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with open(partial, mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


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


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it becomes `path` once the block ends without an exception.

    Every file in it is synced before the rename, so that a power cut cannot leave a whole name on half a file.
    An existing `path` is replaced: it is moved aside first and removed last.

    Raises:
        OSError: the parent cannot be written or the disk is full; `path` is then as it was before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        sync_tree(partial)
        replace_directory(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync_tree(directory: Path) -> None:
    """Hand every file and folder below `directory`, and itself, to the disk.

    Raises:
        OSError: the disk is full or failed, which some file systems say only now.
    """
    for path in sorted(directory.rglob("*")):
        _sync(path)
    _sync(directory)


def replace_directory(partial: Path, path: Path) -> None:
    """Rename a synced folder to `path`, on the same file system; what stood there is moved aside first, removed last.

    Raises:
        OSError: the parent cannot be written; `path` is then as it was before.
    """
    retired = path.with_name(f".{path.name}.retired-{os.getpid()}")
    if path.exists():
        os.replace(path, retired)
    os.replace(partial, path)
    _sync(path.parent)
    shutil.rmtree(retired, ignore_errors=True)
