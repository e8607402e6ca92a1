"""Which languages a model prefers in the pool of all languages, from the ranks of the answers in it.

Ranks are `pool_rank` of per_query.npz: of each language, the best rank of the query's positives, [Q, G] with NaN where
it has none. A model without preference puts the answer of any of the query's m languages first equally often, 1 / m.
This speaks of the answers alone; wrong candidates that rank high are not told apart by language.

Q queries, G languages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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


def _named(languages: Sequence[str], values_G: np.ndarray | None) -> dict[str, float] | None:
    return None if values_G is None else {x: float(v) for x, v in zip(languages, values_G, strict=True)}
