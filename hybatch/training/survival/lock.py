"""One run at a time in an output folder."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hybatch.errors import UserError

LOCK = ".lock"
# Processes that were just killed hold their locks until the kernel has taken them down.
_PATIENCE_SECONDS = 5.0
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


@contextmanager
def folder_lock(directory: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold `directory`, made if missing, for this process; the kernel lets go of it however the process ends.

    Args:
        say: told where the file system knows no locks; the run then goes on without one.

    Raises:
        UserError: another run holds it, or the folder cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UserError(f"output_dir {directory} cannot be written: {error.strerror or error}") from error
    try:
        _acquire(descriptor, directory, say)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, directory: Path, say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                raise UserError(
                    f"output_dir {directory} is in use by another run ({holder or 'holder unknown'}): wait for its "
                    "end, or name another folder"
                ) from None
            time.sleep(0.1)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            say(f"{directory}: this file system knows no locks ({error.strerror}); see to it that no two runs share it")
            return
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
