"""Locks on files: one process at a time, let go of by the kernel however their holder ends.

They are those of flock(2): between all processes of a machine, whatever containers they run in, and over NFS between
machines. A file system that knows no locks is told from a lock that another holds in one place, here; what it means to
go without one is for each user to say.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.1
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


class LockHeld(Exception):
    """Another holds the lock.

    Attributes:
        holder: who, in words; "holder unknown" where it did not say.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder or "holder unknown"


@dataclass(frozen=True)
class Lock:
    """An open file and whether its lock is held.

    Attributes:
        descriptor: of the file. A child that inherits it holds the lock with its parent, and after it.
        missing: why there is no lock: what the file system says that knows none; "" where the lock is held.
    """

    descriptor: int
    missing: str

    @property
    def held(self) -> bool:
        return not self.missing


def lock_now(descriptor: int) -> Lock:
    """Take the lock of an open file, without waiting.

    Raises:
        LockHeld: by another.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockHeld("") from None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return Lock(descriptor, missing=error.strerror or str(error))
    return Lock(descriptor, missing="")


@contextmanager
def file_lock(path: Path, *, patience_seconds: float) -> Iterator[Lock]:
    """Hold the lock of a file, made if missing, while the block runs; it names its holder inside.

    Args:
        patience_seconds: how long to wait for another holder; math.inf: for ever.

    Yields:
        the lock; see to `held`: where the file system knows no locks, the block runs without one.

    Raises:
        LockHeld: by another, all that time.
        OSError: the file cannot be made or opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        lock = _lock_in_time(descriptor, patience_seconds)
        if lock.held:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield lock
    finally:
        os.close(descriptor)


def _lock_in_time(descriptor: int, patience_seconds: float) -> Lock:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return lock_now(descriptor)
        except LockHeld:
            if time.monotonic() >= deadline:
                raise LockHeld(os.pread(descriptor, 200, 0).decode(errors="replace").strip()) from None
        time.sleep(_POLL_SECONDS)
