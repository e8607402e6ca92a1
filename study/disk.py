"""Room on a disk: looked for before long work, and one message where it runs out all the same."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from hybatch.atomic import DISK_ERRORS
from hybatch.errors import UserError


def check_free(folder: Path, needed: int, mend: str) -> None:
    """Check that the disk of a folder, which need not be there yet, has so many free bytes.

    Raises:
        UserError: it has not; the message ends with what mends it.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(f"{folder}: {needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB free: {mend}")


@contextmanager
def disk_errors(path: Path, mend: str) -> Iterator[None]:
    """Turn a write's failure for want of room or rights into one line.

    Raises:
        UserError: the disk of `path` is full or cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        number = _number(error)
        if number not in DISK_ERRORS:
            raise
        raise UserError(f"{path}: cannot be written ({os.strerror(number)}): {mend}") from error


def _number(error: Exception) -> int:
    """The system's number of an error; libraries in Rust have it in their text alone."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else 0
