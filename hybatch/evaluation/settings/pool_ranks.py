"""The ranks that bias metrics are computed from.

Q queries of one language, P positives of theirs in the pool, G languages, K best places of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hybatch.evaluation.settings.per_query import best_ranks


@dataclass(frozen=True)
class PoolRanks:
    """What the queries of one language find in one pool.

    own, pivot: the number of their language, and of English where the pool is the bilingual one.
    rank_P, query_P, group_P: rank in the pool of every positive, its query and its language; int64.
    sizes_G: candidates of each language, 0 of those outside the pool; int64.
    best_QK: languages of the best candidates, best first; of a pool with fewer than the largest of `TOP_CUTOFFS`, all.
    """

    own: int
    pivot: int | None
    rank_P: np.ndarray
    query_P: np.ndarray
    group_P: np.ndarray
    sizes_G: np.ndarray
    best_QK: np.ndarray

    @property
    def num_queries(self) -> int:
        """Q."""
        return len(self.best_QK)

    @cached_property
    def counts_QG(self) -> np.ndarray:
        """int64 [Q, G]: positives of each language."""
        shape = (self.num_queries, len(self.sizes_G))
        cells_P = self.query_P * len(self.sizes_G) + self.group_P
        return np.bincount(cells_P, minlength=shape[0] * shape[1]).reshape(shape)

    @cached_property
    def best_ranks_QG(self) -> np.ndarray:
        """float64 [Q, G]: rank of the best positive of each language, NaN where there is none."""
        return best_ranks(self.rank_P, self.query_P, self.group_P, self.num_queries, len(self.sizes_G))

    @cached_property
    def positives_Q(self) -> np.ndarray:
        """float64 [Q]: number of positives, NaN instead of 0."""
        counts_Q = self.counts_QG.sum(axis=1)
        return np.where(counts_Q > 0, counts_Q, np.nan)

    @cached_property
    def first_rank_Q(self) -> np.ndarray:
        """float64 [Q]: the best rank of a positive, NaN where there is none."""
        ranks_QG = np.where(np.isnan(self.best_ranks_QG), np.inf, self.best_ranks_QG)
        first_Q = ranks_QG.min(axis=1)
        return np.where(np.isinf(first_Q), np.nan, first_Q)

    @cached_property
    def last_rank_Q(self) -> np.ndarray:
        """float64 [Q]: the worst rank of a positive, NaN where there is none."""
        last_Q = np.full(self.num_queries, np.nan)
        np.fmax.at(last_Q, self.query_P, self.rank_P.astype(np.float64))
        return last_Q
