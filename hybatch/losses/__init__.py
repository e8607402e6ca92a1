"""The contrastive loss over the whole global batch, gathered from every process."""

from hybatch.losses.contrastive import ContrastiveLoss, LossConfig
from hybatch.losses.gather import gather, gather_with_gradient
from hybatch.losses.info_nce import IMPLEMENTATIONS, dense_info_nce, streaming_info_nce
from hybatch.ops.contrastive import EMPTY_SLOT, UNKNOWN_GROUP

__all__ = [
    "EMPTY_SLOT",
    "IMPLEMENTATIONS",
    "UNKNOWN_GROUP",
    "ContrastiveLoss",
    "LossConfig",
    "dense_info_nce",
    "gather",
    "gather_with_gradient",
    "streaming_info_nce",
]
