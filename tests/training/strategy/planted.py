"""Code in a pickle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class Planted:
    """Makes a folder as it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)
