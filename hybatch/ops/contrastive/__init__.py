"""The contrastive loss without a matrix of queries by candidates in memory."""

from hybatch.ops.contrastive.loss import ContrastiveTerms, contrastive_terms, info_nce
from hybatch.ops.contrastive.masking import EMPTY_SLOT, UNKNOWN_GROUP, pack_pairs, unpack_pairs
from hybatch.ops.contrastive.similarity import similarity

__all__ = [
    "EMPTY_SLOT",
    "UNKNOWN_GROUP",
    "ContrastiveTerms",
    "contrastive_terms",
    "info_nce",
    "pack_pairs",
    "similarity",
    "unpack_pairs",
]
