"""Files and folders that appear whole or not at all: written beside, synced, then renamed.

The atomic rename is here: of a file `os.replace`; of a folder that takes another's place `replace_directory`, an
exchange of the two names in one step where system and file system have it. What is kept beside the destination
meanwhile, and how a later start clears away what a killed process left of it: `hybatch.leftovers`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from hybatch.errors import UserError
from hybatch.leftovers import discard, held, kept_beside, name_beside, recover, recover_once

# What no retry mends: the disk is full, or the folder may not be written.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)

# Of Linux's renameat2(2); what it answers where the system, the file system or a container's rules do not have it.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)
# What SMB, sshfs, vboxsf and other file systems answer that hand no folder to the disk.
_NO_SYNC_OF_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
# What those answer that have no symbolic links: SMB, exFAT, some of FUSE.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC_OF_FOLDERS or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing that replaces `path` only once the block ends without an exception.

    Text is UTF-8 with "\\n" line ends on every system. Missing parent folders are made.

    Raises:
        OSError: the folder cannot be written or the disk is full; `path` is then as it was before. (If the disk fails
            as the rename itself is handed to it, the last thing, `path` is whole, old or new.)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_once(path.parent.absolute())
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    with kept_beside(path, is_folder=False) as partial:
        try:
            with open(partial, mode, **text) as file:  # type: ignore[call-overload]
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            _sync(path.parent)
        finally:
            discard(partial)


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

    Every file in it is synced before the rename, so that a power cut cannot leave a whole name on half a file, and has
    the mode that the process's umask says, whatever the library that wrote it chose. An existing `path` is replaced.

    Raises:
        OSError: the parent cannot be written or the disk is full; `path` is then as it was before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path.parent, name=path.name)
    with kept_beside(path, is_folder=True) as partial:
        mode = partial.stat().st_mode
        try:
            yield partial
            _grant(partial, mode)
            sync_tree(partial)
            replace_directory(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _grant(directory: Path, mode: int) -> None:
    """Let those read and write the files below a folder who may do so in a new folder, whose mode is given.

    Some libraries write through temporary files that only their owner may read.
    """
    for path in directory.rglob("*"):
        if path.is_symlink():
            continue
        now = path.stat().st_mode
        wanted = now | (mode & (0o777 if path.is_dir() else 0o666))
        if wanted != now:
            path.chmod(wanted & 0o7777)


def replace_link(path: Path, target: str) -> None:
    """Let `path`, a link or nothing, be a link to `target`, in one step; nothing where the file system has no links.

    Raises:
        OSError: the folder cannot be written or the disk is full; `path` is then as it was before.
    """
    beside = path.with_name(f".{path.name}")
    beside.unlink(missing_ok=True)
    try:
        beside.symlink_to(target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return
    os.replace(beside, path)


def sync_tree(directory: Path) -> None:
    """Hand every file and folder below `directory`, and itself, to the disk.

    Raises:
        OSError: the disk is full or failed, which some file systems say only now.
    """
    for path in sorted(directory.rglob("*")):
        _sync(path)
    _sync(directory)


def replace_directory(partial: Path, path: Path) -> None:
    """Rename a synced folder to `path`, on the same file system; what stood there is removed last.

    Where the two names can be exchanged in one step, `path` is whole at every moment, whenever the process ends.
    Elsewhere what stood there is moved aside first; if the process is killed between the two renames, `recover`
    moves it back.

    Raises:
        OSError: the parent cannot be written; `path` is then as it was before.
    """
    if not os.path.lexists(path):
        _take_name(partial, path)
    elif _exchange(partial, path):
        _sync_or_undo(path.parent, lambda: _exchange(partial, path))
        discard(partial)
    else:
        _replace_in_two_steps(partial, path)


def _take_name(partial: Path, path: Path) -> None:
    os.replace(partial, path)
    _sync_or_undo(path.parent, lambda: os.replace(path, partial))


def _replace_in_two_steps(partial: Path, path: Path) -> None:
    retired = name_beside(path, "retired")
    with held(path):
        os.replace(path, retired)
        try:
            _take_name(partial, path)
        except BaseException:
            os.replace(retired, path)
            raise
        # Half removed it must not pass for whole.
        doomed = name_beside(path, "partial")
        with suppress(OSError):
            os.replace(retired, doomed)
            discard(doomed)


def _sync_or_undo(directory: Path, undo: Callable[[], object]) -> None:
    try:
        _sync(directory)
    except BaseException:
        undo()
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchange what two names stand for in one step; whether the system and the file system can.

    Raises:
        OSError: one of them is missing, or the folder cannot be written.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))
