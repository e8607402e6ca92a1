"""How the bias metrics compute every query's figure from its exact ranks.

Each function is a metric's `compute`, or makes one for k first places of the pool: `PoolRanks` -> float64 [Q], NaN for
queries that the metric leaves out.

Q queries of one language, P positives of theirs in the pool, G languages, k first places of the pool, T those ranked.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hybatch.evaluation.settings.metrics import figures_per_query
from hybatch.evaluation.settings.peer import equal_rank_probability
from hybatch.evaluation.settings.pool_ranks import PoolRanks


def average_precision(pool: PoolRanks) -> np.ndarray:
    figures = figures_per_query(pool.rank_P, pool.query_P, pool.num_queries)
    precision_Q = np.full(pool.num_queries, np.nan)
    precision_Q[figures.counted] = figures.average_precision
    return precision_Q


def last_place(pool: PoolRanks) -> np.ndarray:
    room_Q = pool.sizes_G.sum() - pool.positives_Q
    return (pool.last_rank_Q - pool.positives_Q) / np.where(room_Q > 0, room_Q, np.nan)


def complete(k: int) -> Callable[[PoolRanks], np.ndarray]:
    def compute(pool: PoolRanks) -> np.ndarray:
        return np.where(pool.positives_Q <= k, (pool.last_rank_Q <= k).astype(np.float64), np.nan)

    return compute


def language_ndcg(k: int) -> Callable[[PoolRanks], np.ndarray]:
    sums_k = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])

    def compute(pool: PoolRanks) -> np.ndarray:
        gain_P = np.where(pool.group_P == pool.own, 2.0, 1.0) * (pool.rank_P <= k)
        # Summed in the order of the ranks, so that the order of the positives cannot show in the last bit.
        order_P = np.lexsort((pool.rank_P, pool.query_P))
        discounted_P = (gain_P / np.log2(1 + pool.rank_P))[order_P]
        found_Q = np.bincount(pool.query_P[order_P], weights=discounted_P, minlength=pool.num_queries)
        counts_Q, own_Q = pool.counts_QG.sum(axis=1), pool.counts_QG[:, pool.own]
        ideal_Q = sums_k[np.minimum(own_Q, k)] + sums_k[np.minimum(counts_Q, k)]
        return found_Q / np.where(counts_Q > 0, ideal_Q, np.nan)

    return compute


def first(right: bool, own: bool) -> Callable[[PoolRanks], np.ndarray]:
    def compute(pool: PoolRanks) -> np.ndarray:
        is_right_Q, is_own_Q = pool.first_rank_Q == 1, pool.best_QK[:, 0] == pool.own
        hit_Q = (is_right_Q == right) & (is_own_Q == own)
        return np.where(np.isnan(pool.first_rank_Q), np.nan, hit_Q.astype(np.float64))

    return compute


def english_inclination(pool: PoolRanks) -> np.ndarray:
    is_wrong_Q, is_english_Q = pool.first_rank_Q > 1, pool.best_QK[:, 0] == pool.pivot
    return np.where(np.isnan(pool.first_rank_Q), np.nan, (is_wrong_Q & is_english_Q).astype(np.float64))


def peer_answers(k: int) -> Callable[[PoolRanks], np.ndarray]:
    def compute(pool: PoolRanks) -> np.ndarray:
        order_P = np.lexsort((pool.rank_P, pool.query_P))
        query_P = pool.query_P[order_P]
        count_Q = pool.counts_QG.sum(axis=1)
        place_P = np.arange(len(query_P)) - (np.cumsum(count_Q) - count_Q)[query_P] + 1
        within_P = pool.rank_P[order_P] <= k
        groups_T = pool.group_P[order_P][within_P]
        return equal_rank_probability(place_P[within_P], query_P[within_P], groups_T, pool.counts_QG)

    return compute


def peer_others(k: int) -> Callable[[PoolRanks], np.ndarray]:
    def compute(pool: PoolRanks) -> np.ndarray:
        best_Qk = pool.best_QK[:, :k]
        is_answer_Qk = np.zeros(best_Qk.shape, dtype=bool)
        within_P = pool.rank_P <= best_Qk.shape[1]
        is_answer_Qk[pool.query_P[within_P], pool.rank_P[within_P] - 1] = True
        query_T, column_T = np.nonzero(~is_answer_Qk)
        place_T = np.cumsum(~is_answer_Qk, axis=1)[query_T, column_T]
        p_Q = equal_rank_probability(
            place_T, query_T, best_Qk[query_T, column_T].astype(np.int64), pool.sizes_G - pool.counts_QG
        )
        return np.where(np.isnan(pool.positives_Q), np.nan, p_Q)

    return compute
