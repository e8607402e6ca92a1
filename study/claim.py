"""Which of several runners has a run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hybatch.errors import UserError


@contextmanager
def claim(path: Path) -> Iterator[int | None]:
    """Lock a file, made if missing, while the block runs: yields its descriptor, or None where another holds it.

    The kernel lets go of it when every process that has the descriptor has ended, so that a child that inherits it
    keeps the run from others even after its runner is killed.

    Raises:
        UserError: the folder cannot be written, or its file system knows no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        yield descriptor if _locked(descriptor, path) else None
    finally:
        os.close(descriptor)


def _locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(f"{path}: this file system knows no locks ({error.strerror}); name other --runs") from error
    return True
