"""A tiny encoder in a folder, for what hands it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hybatch.models import EncoderConfig, build_encoder
from tests.models.backbones import save_backbone


def save_encoder(folder: Path, architecture: str = "xlm-roberta", **options: Any) -> Path:
    """Save one over a backbone of random weights, which lies in a folder beside it."""
    backbone = folder.parent / "backbones" / architecture
    if not backbone.exists():
        save_backbone(folder.parent / "backbones", architecture)
    lengths = {"query_max_length": 20, "passage_max_length": 30}
    build_encoder(EncoderConfig(backbone=str(backbone), **{**lengths, **options}), seed=0).save(folder)
    return folder
