"""State dicts as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def save_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write a state dict.

    Raises:
        OSError: the disk is full or the folder cannot be written; torch's own writer hides that behind another error.
    """
    try:
        with open(path, "wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
