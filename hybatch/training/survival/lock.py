"""One run at a time in an output folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hybatch.errors import UserError
from hybatch.locks import LockHeld, file_lock

LOCK = ".lock"
# Processes that were just killed hold their locks until the kernel has taken them down.
_PATIENCE_SECONDS = 5.0


@contextmanager
def folder_lock(directory: Path, say: Callable[[str], None]) -> Iterator[bool]:
    """Hold `directory`, made if missing, for this process; the kernel lets go of it however the process ends.

    Args:
        say: told where the file system knows no locks; the run then goes on without one.

    Yields:
        whether the folder is surely this run's alone.

    Raises:
        UserError: another run holds it, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(file_lock(directory / LOCK, patience_seconds=_PATIENCE_SECONDS))
        except LockHeld as held:
            raise UserError(
                f"output_dir {directory} is in use by another run ({held.holder}): wait for its end, or name another "
                "folder"
            ) from None
        except OSError as error:
            raise UserError(f"output_dir {directory} cannot be written: {error.strerror or error}") from error
        if not lock.held:
            say(f"{directory}: this file system knows no locks ({lock.missing}); see to it that no two runs share it")
        yield lock.held
