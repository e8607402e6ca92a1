"""Which of several runners has a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hybatch.errors import UserError
from hybatch.locks import LockHeld, file_lock


@contextmanager
def claim(path: Path) -> Iterator[int | None]:
    """Lock a file, made if missing, while the block runs: yields its descriptor, or None where another holds it.

    The kernel lets go of it when every process that has the descriptor has ended, so that a child that inherits it
    keeps the run from others even after its runner is killed.

    Raises:
        UserError: the folder cannot be written, or its file system knows no locks.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(file_lock(path, patience_seconds=0))
        except LockHeld:
            lock = None
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
        if lock is not None and not lock.held:
            raise UserError(f"{path}: this file system knows no locks ({lock.missing}); name other --runs")
        yield lock.descriptor if lock is not None else None
