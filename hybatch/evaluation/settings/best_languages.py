"""Of which languages each query's best candidates are, right or wrong, in the order of their ranks.

Q queries of one language, D candidates, G languages, C cutoffs, K best places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybatch.ops import BestCandidates

TOP_CUTOFFS = (10, 100)


@dataclass(frozen=True)
class BestLanguages:
    """Languages of the best candidates of the queries of one language, best first; int16.

    pool_QK: among all candidates; of a pool with fewer than the largest of `TOP_CUTOFFS`, all.
    pair_Q1: among those of the query's language and English; None where there is no such pool.
    """

    pool_QK: np.ndarray
    pair_Q1: np.ndarray | None


def best_languages(
    best: BestCandidates, queries: slice, groups_D: np.ndarray, own: int, pivot: int | None
) -> BestLanguages:
    """The languages of the best candidates of the queries of one language.

    Args:
        best: of all queries that were counted; `queries` says which of them are meant.
        groups_D: the language of each candidate of the pool.
        own, pivot: the numbers of the queries' language, and of the one that bilingual pools have beside it; None for
            no such pools.
    """
    pool_QK = groups_D[best.index[queries].cpu().numpy()].astype(np.int16)
    if pivot is None or own == pivot:
        return BestLanguages(pool_QK, None)
    scores_QG, index_QG = (table[queries].cpu().numpy() for table in (best.group_scores, best.group_index))
    is_tied_Q = scores_QG[:, own] == scores_QG[:, pivot]
    own_first_Q = np.where(is_tied_Q, index_QG[:, own] < index_QG[:, pivot], scores_QG[:, own] > scores_QG[:, pivot])
    return BestLanguages(pool_QK, np.where(own_first_Q, own, pivot).astype(np.int16)[:, None])


def language_counts(languages_QK: np.ndarray, num_groups: int) -> np.ndarray:
    """int64 [C, G]: over all queries, candidates of each language among the min(k, K) best, for k of `TOP_CUTOFFS`."""
    return np.stack([np.bincount(languages_QK[:, :k].ravel(), minlength=num_groups) for k in TOP_CUTOFFS])
