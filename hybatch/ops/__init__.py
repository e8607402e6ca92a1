"""Compute-heavy operations: their Python face and a pure-PyTorch backend; imports nothing else of the package."""

from hybatch.ops.backend import BackendChoice, BackendError, describe
from hybatch.ops.ranking import RankCounter, RankCounts, rank_counts

__all__ = ["BackendChoice", "BackendError", "RankCounter", "RankCounts", "describe", "rank_counts"]
