"""The contrastive loss over the whole global batch, gathered from every process."""

from hybatch.losses.contrastive import EMPTY_SLOT, UNKNOWN_GROUP, ContrastiveLoss, LossConfig, dense_info_nce
from hybatch.losses.gather import gather, gather_with_gradient

__all__ = [
    "EMPTY_SLOT",
    "UNKNOWN_GROUP",
    "ContrastiveLoss",
    "LossConfig",
    "dense_info_nce",
    "gather",
    "gather_with_gradient",
]
