"""The contrastive loss over the whole global batch, whichever processes hold it."""

from hybatch.losses.contrastive import ContrastiveLoss, LossConfig
from hybatch.losses.gather import exchange_with_gradient, gather, gather_with_gradient
from hybatch.losses.info_nce import choose_computation, dense_info_nce, streaming_info_nce
from hybatch.losses.ring import ring_terms
from hybatch.ops.contrastive import EMPTY_SLOT, UNKNOWN_GROUP

__all__ = [
    "EMPTY_SLOT",
    "UNKNOWN_GROUP",
    "ContrastiveLoss",
    "LossConfig",
    "choose_computation",
    "dense_info_nce",
    "exchange_with_gradient",
    "gather",
    "gather_with_gradient",
    "ring_terms",
    "streaming_info_nce",
]
