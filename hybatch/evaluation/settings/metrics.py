"""Average precision, recall@k, hit@k, rank distance and tie bounds from the ranks of the positives.

The rank of a positive in a pool is 1 + the candidates with a greater score + those with an equal score and a smaller
index: its place in a stable descending sort. Everything here works on such ranks, for all queries at once.

Q queries, P positives (`query_P` says which query each belongs to).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

CUTOFFS = (1, 10)
METRICS = ("map", *(f"recall@{k}" for k in CUTOFFS), *(f"hit@{k}" for k in CUTOFFS))


@dataclass(frozen=True)
class QueryFigures:
    """The figures of each query that has a positive in the pool, in query order; arrays are [counted queries].

    average_precision: mean over the query's positives, sorted by rank r_1 < r_2 < ..., of i / r_i; float64.
    recall[k]: share of the query's positives within the top k; float64.
    hit[k]: 1.0 where any positive is within the top k, else 0.0.
    rank_distance: worst minus best rank of the query's positives; int64.
    counted: bool [Q], which of the queries asked these are; the pool holds no positive of the others.
    """

    average_precision: np.ndarray
    recall: dict[int, np.ndarray]
    hit: dict[int, np.ndarray]
    rank_distance: np.ndarray
    counted: np.ndarray

    @property
    def num_queries(self) -> int:
        """Queries counted."""
        return len(self.average_precision)

    @property
    def num_skipped(self) -> int:
        """Queries left out."""
        return len(self.counted) - self.num_queries


def mean(values: Iterable[float]) -> float | None:
    """The mean, correctly rounded whatever the order of the values; None where there are none."""
    listed = [float(value) for value in values]
    return math.fsum(listed) / len(listed) if listed else None


def figures_per_query(ranks_P: np.ndarray, query_P: np.ndarray, num_queries: int) -> QueryFigures:
    """Compute every figure of every query from the ranks of its positives in one pool.

    Args:
        ranks_P: integer ranks, from 1, distinct within a query.
        query_P: the query that each rank belongs to, in [0, num_queries).
        num_queries: queries asked; those without a rank are left out.
    """
    order_P = np.lexsort((ranks_P, query_P))
    sorted_P, owner_P = ranks_P[order_P].astype(np.int64), query_P[order_P]
    count_Q = np.bincount(owner_P, minlength=num_queries)
    start_Q = np.cumsum(count_Q) - count_Q
    counted = count_Q > 0
    place_P = np.arange(len(sorted_P)) - start_Q[owner_P] + 1

    def mean_over_positives(values_P: np.ndarray) -> np.ndarray:
        sums_Q = np.bincount(owner_P, weights=values_P, minlength=num_queries)
        return sums_Q[counted] / count_Q[counted]

    recall = {k: mean_over_positives((sorted_P <= k).astype(np.float64)) for k in CUTOFFS}
    best = sorted_P[start_Q[counted]]
    worst = sorted_P[(start_Q + count_Q - 1)[counted]]
    return QueryFigures(
        average_precision=mean_over_positives(place_P / sorted_P),
        recall=recall,
        hit={k: (recall[k] > 0).astype(np.float64) for k in CUTOFFS},
        rank_distance=worst - best,
        counted=counted,
    )


def tie_bounds(greater_P: np.ndarray, tied_P: np.ndarray, query_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best and worst ranks that the positives could have, were ties broken for or against them.

    A block is the T candidates of one score; with m of the query's positives in it, the j-th of them ranks
    1 + greater + j - 1 at best and 1 + greater + T - m + j - 1 at worst.

    Args:
        greater_P: candidates of the pool with a greater score than the positive.
        tied_P: other candidates with the same score, so T = 1 + tied.
        query_P: the query that each positive belongs to.

    Returns:
        int64 [P] optimistic and pessimistic ranks; within a block they are dealt to the positives in input order.
    """
    greater, tied = greater_P.astype(np.int64), tied_P.astype(np.int64)
    order_P = np.lexsort((greater, query_P))
    block_greater, block_query = greater[order_P], query_P[order_P]
    starts_block = np.ones(len(order_P), dtype=bool)
    starts_block[1:] = (block_greater[1:] != block_greater[:-1]) | (block_query[1:] != block_query[:-1])
    block_P = np.cumsum(starts_block) - 1
    first_P = np.flatnonzero(starts_block)[block_P]
    size_P = np.bincount(block_P)[block_P] if len(block_P) else block_P
    best = 1 + block_greater + np.arange(len(order_P)) - first_P
    optimistic, pessimistic = np.empty_like(greater), np.empty_like(greater)
    optimistic[order_P] = best
    pessimistic[order_P] = best + 1 + tied[order_P] - size_P
    return optimistic, pessimistic
