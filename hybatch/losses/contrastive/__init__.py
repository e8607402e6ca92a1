"""The contrastive loss: its options, the candidates that queries meet, what is computed of them."""

from hybatch.losses.contrastive.config import ContrastiveConfig
from hybatch.losses.contrastive.loss import ContrastiveLoss

__all__ = ["ContrastiveConfig", "ContrastiveLoss"]
