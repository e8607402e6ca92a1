"""From the ranks of one evaluation to every figure of `BIAS_METRICS`, and to the languages of what is found first.

Q queries of one language, P positives of theirs, G languages, K best places of the pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hybatch.evaluation.settings.best_languages import BestLanguages
from hybatch.evaluation.settings.bias_metrics import BILINGUAL, MULTILINGUAL, POOLS, english_of, metrics_of
from hybatch.evaluation.settings.metrics import mean
from hybatch.evaluation.settings.per_query import QueryTables
from hybatch.evaluation.settings.pool_ranks import PoolRanks


@dataclass(frozen=True)
class AnswerRanks:
    """Ranks, from 1, of the positives of the queries of one language; int64.

    query_P, group_P: the query and the language of each.
    pool_rank_P: among all candidates.
    pair_rank_P: among those of the query's language and English, were it one of them; None where there is no bilingual
        pool.
    """

    query_P: np.ndarray
    group_P: np.ndarray
    pool_rank_P: np.ndarray
    pair_rank_P: np.ndarray | None


def pivot_of(num_candidates: Mapping[str, int]) -> str | None:
    """The language that bilingual pools have beside the query's: English, where it has candidates."""
    return english_of([x for x, count in num_candidates.items() if count])


def bias_figures(
    ranks: Mapping[str, AnswerRanks], best: Mapping[str, BestLanguages], num_candidates: Mapping[str, int]
) -> tuple[dict[str, Any], QueryTables]:
    """Compute every metric of every query language.

    Args:
        ranks, best: by query language, in the order of the languages' numbers.

    Returns:
        ({"pivot": English, None without it,
        "multilingual": {query language: {metric: mean over its queries}},
        "bilingual": the same of the pools of the query's language and English; of no language without English, and
            not of English,
        "summary": {"multilingual" | "bilingual": {metric: unweighted mean over the languages that have it}},
        "first": {query language: {language: share of the queries whose best candidate in the pool of all it is}}, None
            where there is no query}; a figure is None where no query has it,
        the figures of every query as per_query.npz has them).
    """
    languages = list(ranks)
    sizes_G = np.array([num_candidates[x] for x in languages], dtype=np.int64)
    pivot = pivot_of(num_candidates)
    figures: dict[str, dict[str, dict[str, Any]]] = {pool: {} for pool in POOLS}
    tables: QueryTables = {}
    for own, (language, one) in enumerate(ranks.items()):
        best_QK = best[language].pool_QK
        pools = {MULTILINGUAL: PoolRanks(own, None, one.pool_rank_P, one.query_P, one.group_P, sizes_G, best_QK)}
        if pivot is not None and language != pivot:
            pools[BILINGUAL] = _bilingual(one, best[language], own, languages.index(pivot), sizes_G)
        for kind, pool in pools.items():
            values = {metric.name: metric.compute(pool) for metric in metrics_of(kind)}
            figures[kind][language] = {name: mean(each[~np.isnan(each)]) for name, each in values.items()}
            tables |= {f"{name}/{language}": each for name, each in values.items()}
        if language == pivot:
            nothing_Q = np.full(len(best_QK), np.nan)
            tables |= {f"{metric.name}/{language}": nothing_Q for metric in metrics_of(BILINGUAL)}
    section = {
        "pivot": pivot,
        **figures,
        "summary": {
            kind: {metric.name: _mean_over(of_kind, metric.name) for metric in metrics_of(kind)}
            for kind, of_kind in figures.items()
        },
        "first": {x: _shares(best[x].pool_QK[:, 0], languages) for x in languages},
    }
    return section, tables


def _bilingual(one: AnswerRanks, best: BestLanguages, own: int, pivot: int, sizes_G: np.ndarray) -> PoolRanks:
    assert one.pair_rank_P is not None
    assert best.pair_Q1 is not None
    inside_P = (one.group_P == own) | (one.group_P == pivot)
    of_pair_G = np.isin(np.arange(len(sizes_G)), (own, pivot))
    return PoolRanks(
        own,
        pivot,
        one.pair_rank_P[inside_P],
        one.query_P[inside_P],
        one.group_P[inside_P],
        np.where(of_pair_G, sizes_G, 0),
        best.pair_Q1,
    )


def _mean_over(figures: Mapping[str, Mapping[str, float | None]], metric: str) -> float | None:
    return mean(value for value in (one[metric] for one in figures.values()) if value is not None)


def _shares(first_Q: np.ndarray, languages: Sequence[str]) -> dict[str, float] | None:
    if not len(first_Q):
        return None
    counts = np.bincount(first_Q, minlength=len(languages)).tolist()
    return {x: count / len(first_Q) for x, count in zip(languages, counts, strict=True)}
