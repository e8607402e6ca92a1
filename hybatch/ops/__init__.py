"""Compute-heavy operations: their Python face and a pure-PyTorch backend; imports nothing else of the package."""

from hybatch.ops.backend import BackendError
from hybatch.ops.contrastive import contrastive_terms, info_nce, similarity
from hybatch.ops.description import BackendChoice, describe
from hybatch.ops.ranking import BestCandidates, RankCounter, RankCounts, rank_counts

__all__ = [
    "BackendChoice",
    "BackendError",
    "BestCandidates",
    "RankCounter",
    "RankCounts",
    "contrastive_terms",
    "describe",
    "info_nce",
    "rank_counts",
    "similarity",
]
