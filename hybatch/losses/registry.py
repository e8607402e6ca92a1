"""The losses that `loss.kind` can name. A new one is a module with its options, and a line here."""

from __future__ import annotations

from hybatch.losses.contrastive import ContrastiveConfig
from hybatch.losses.protocol import LossConfig

LOSSES: dict[str, type[LossConfig]] = {
    "contrastive": ContrastiveConfig,
}
DEFAULT_LOSS = ContrastiveConfig
