"""Which weights a run starts from, so that a run that goes on can tell whether its backbone has changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hybatch.errors import UserError
from hybatch.models import EncoderConfig
from hybatch.models.folder.finding import locate

# transformers takes the first that is there; sentence-transformers does the same for its dense layers.
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
# Folders of sentence-transformers' modules, such as 0_Transformer and 2_Dense.
_MODULES = "[0-9]*_*"
_COMMIT = "commit"


def backbone_weights(model: EncoderConfig) -> dict[str, str]:
    """Tell the weights of a pretrained backbone, its dense layers included, from any others.

    Returns:
        File -> its SHA-256 in hex, by the path from the backbone's folder; for one in the hub's cache, whose files do
        not change, "commit" -> the hub's commit. Empty for a fresh backbone, and where the files cannot be read.
    """
    if model.backbone is None:
        return {}
    try:
        folder = locate(model.backbone)
        if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
            return {_COMMIT: folder.name}
        parts = [folder, *sorted(path for path in folder.glob(_MODULES) if path.is_dir())]
        files = [file for part in parts for file in _weight_files(part)]
        names = [file.relative_to(folder).as_posix() for file in files]
        with ThreadPoolExecutor(max_workers=4) as pool:
            return dict(zip(names, pool.map(_sha256, files), strict=True))
    except (OSError, UserError):
        # A run must not end because its backbone was taken away after it was read; one that goes on decides for itself.
        return {}


def changed_weights(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say what differs, e.g. "model.safetensors 0a1b2c3d4e5f -> 6f5e4d3c2b1a"; nothing where one of them is unknown."""
    if not before or not now:
        return []
    names = [name for name in sorted(before.keys() | now) if before.get(name) != now.get(name)]
    return [f"{name} {before.get(name, 'none')[:12]} -> {now.get(name, 'none')[:12]}" for name in names]


def _weight_files(folder: Path) -> list[Path]:
    found = (sorted(folder.glob(pattern)) for pattern in _WEIGHTS)
    return next((files for files in found if files), [])


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
