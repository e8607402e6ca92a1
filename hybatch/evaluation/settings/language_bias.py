"""Which languages a model prefers in the pool of all languages: among the answers, and among all best candidates.

**Answers**: ranks are `pool_rank` of per_query.npz: of each language, the best rank of the query's positives, [Q, G]
with NaN where it has none. A model without preference puts the answer of any of the query's m languages first equally
often, 1 / m.

**All candidates**, right or wrong: a model that does not care for the language fills the k best places with each
language in proportion to its share of the pool.

Q queries, G languages, C cutoffs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hybatch.evaluation.settings.best_languages import TOP_CUTOFFS
from hybatch.evaluation.settings.metrics import mean

TOP = 10


def own_language_first(ranks_QG: np.ndarray, own: int) -> np.ndarray:
    """float64 [Q]: 1 where the answer in the query's own language, number `own`, ranks before those in the others.

    NaN where the query has no answer in its own language, or in no other.
    """
    choice_Q = ~np.isnan(ranks_QG[:, own]) & ((~np.isnan(ranks_QG)).sum(axis=1) > 1)
    others_QG = np.where(np.isnan(ranks_QG), np.inf, ranks_QG)
    own_Q = others_QG[:, own].copy()
    others_QG[:, own] = np.inf
    return np.where(choice_Q, (own_Q < others_QG.min(axis=1)).astype(np.float64), np.nan)


def language_bias(ranks: Mapping[str, np.ndarray], languages: Sequence[str], top: int = TOP) -> dict[str, Any]:
    """Summarise the preferences of one model.

    Args:
        ranks: query language -> [Q, G], columns in the order of `languages`.

    Returns:
        {"own_language_first": share of the queries that could show it, "own_language_first_uniform": 1 / m on average,
        "top": k, "top_share": {language: its share of the answers within the top k}, "top_share_uniform": {language:
        its share if those of every query were spread evenly over the query's m languages}, "top_share_distance": half
        the sum of their absolute differences, 0 for none to 1}. None where there is nothing to count.
    """
    ranks_QG = np.concatenate([ranks[language] for language in languages])
    there_QG = ~np.isnan(ranks_QG)
    spoken_Q = there_QG.sum(axis=1)
    first_Q = np.concatenate([own_language_first(ranks[x], own) for own, x in enumerate(languages)])
    shown_Q = ~np.isnan(first_Q)
    within_QG = np.where(there_QG, ranks_QG, np.inf) <= top
    found = within_QG.sum(axis=0)
    even_QG = there_QG * (within_QG.sum(axis=1) / np.maximum(spoken_Q, 1))[:, None]
    total = found.sum()
    share, uniform = (found / total, even_QG.sum(axis=0) / total) if total else (None, None)
    return {
        "own_language_first": float(first_Q[shown_Q].mean()) if shown_Q.any() else None,
        "own_language_first_uniform": float((1 / spoken_Q[shown_Q]).mean()) if shown_Q.any() else None,
        "top": top,
        "top_share": _named(languages, share),
        "top_share_uniform": _named(languages, uniform),
        "top_share_distance": None if share is None else float(np.abs(share - uniform).sum() / 2),
    }


def top_language_shares(
    counts: Mapping[str, np.ndarray], num_queries: Mapping[str, int], num_candidates: Mapping[str, int]
) -> dict[str, Any]:
    """Summarise the languages of all candidates, right or wrong, among the k best of every query in the pool.

    Args:
        counts: query language -> int64 [C, G]: over its queries, the candidates of each language within the k best,
            for the k of `TOP_CUTOFFS`; languages in the order of `counts`.

    Returns:
        {"pool_share": {language: its share of the pool}, "top": {k: {
        "share": {query language: {candidate language: its share of the k best}}, None where there is no query,
        "mean_share": {candidate language: the unweighted mean over the query languages},
        "distance": half the sum of the absolute differences between mean_share and pool_share, 0 for none to 1,
        "own": the unweighted mean over the query languages of the share of the query's own language,
        "own_uniform": the same of the pool's shares}}}. Of a pool smaller than k, all candidates are the best.
    """
    languages, pool = list(counts), sum(num_candidates.values())
    pool_share = {x: num_candidates[x] / pool for x in languages}
    asked = [x for x in languages if num_queries[x]]
    top = {}
    for place, k in enumerate(TOP_CUTOFFS):
        share = {
            x: {y: int(n) / (num_queries[x] * min(k, pool)) for y, n in zip(languages, counts[x][place], strict=True)}
            for x in asked
        }
        mean_share = {y: mean(share[x][y] for x in asked) for y in languages}
        top[str(k)] = {
            "share": {x: share.get(x) for x in languages},
            "mean_share": mean_share,
            "distance": math.fsum(abs((mean_share[y] or 0.0) - pool_share[y]) for y in languages) / 2,
            "own": mean(share[x][x] for x in asked),
            "own_uniform": mean(pool_share[x] for x in asked),
        }
    return {"pool_share": pool_share, "top": top}


def _named(languages: Sequence[str], values_G: np.ndarray | None) -> dict[str, float] | None:
    return None if values_G is None else {x: float(v) for x, v in zip(languages, values_G, strict=True)}
