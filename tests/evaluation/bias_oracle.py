"""Every bias metric of a query by brute force: float64 scores, one stable sort, plain loops, and scipy's test.

Shares nothing with the package but the task's tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.stats

from hybatch.evaluation.settings.task import RetrievalTask

NAN = math.nan


def oracle_pool(candidates: Mapping[str, np.ndarray], task: RetrievalTask) -> tuple[np.ndarray, list[str]]:
    """(float64 [D, H], language of each): the candidates of all languages."""
    pool = np.concatenate([candidates[x] for x in task.languages]).astype(np.float64)
    return pool, [x for x in task.languages for _ in candidates[x]]


def oracle_query(
    query: np.ndarray, positives: list[int], own: str, pool: np.ndarray, language_of: list[str], english: str | None
) -> dict[str, float]:
    """Metric -> figure of one query, NaN where it is left out; without a bilingual pool none of those in it."""
    scores = pool @ query.astype(np.float64)
    whole = _sorted(scores, range(len(scores)))
    figures = _figures(whole, set(positives), own, language_of)
    figures["rank_distance"] = _last(whole, positives) - _ranks(whole, positives)[0] if positives else NAN
    if english is None or english == own:
        return figures
    pair = _sorted(scores, [c for c, x in enumerate(language_of) if x in (own, english)])
    inside = [p for p in positives if language_of[p] in (own, english)]
    ranks = _ranks(pair, inside)
    wrong_english = bool(inside) and pair[0] not in inside and language_of[pair[0]] == english
    return figures | {
        "bilingual_map": float(np.mean([(i + 1) / r for i, r in enumerate(ranks)])) if ranks else NAN,
        "english_inclination": float(wrong_english) if inside else NAN,
        "bilingual_last_rank": _last(pair, inside),
        "bilingual_complete@10": float(ranks[-1] <= 10) if 0 < len(ranks) <= 10 else NAN,
        "bilingual_own_language_first": _own_first(pair, inside, own, language_of),
    }


def _sorted(scores: np.ndarray, candidates: Any) -> list[int]:
    return sorted(candidates, key=lambda c: (-scores[c], c))


def _ranks(order: list[int], positives: Any) -> list[int]:
    wanted = set(positives)
    return [place for place, c in enumerate(order, start=1) if c in wanted]


def _last(order: list[int], positives: list[int]) -> float:
    return float(_ranks(order, positives)[-1]) if positives else NAN


def _own_first(order: list[int], positives: Any, own: str, language_of: list[str]) -> float:
    wanted = set(positives)
    languages = [language_of[c] for c in order if c in wanted]
    return float(languages[0] == own) if own in languages and set(languages) > {own} else NAN


def _figures(order: list[int], positives: set[int], own: str, language_of: list[str]) -> dict[str, float]:
    ranks, count = _ranks(order, positives), len(positives)
    first_right, first_own = order[0] in positives, language_of[order[0]] == own
    gains = [(2.0 if language_of[c] == own else 1.0) if c in positives else 0.0 for c in order]
    figures = {
        "last_rank": float(ranks[-1]) if ranks else NAN,
        "last_place": (ranks[-1] - count) / (len(order) - count) if 0 < count < len(order) else NAN,
        "own_language_first": _own_first(order, positives, own, language_of),
        "lang_ndcg@10": _dcg(gains) / _dcg(sorted(gains, reverse=True)) if ranks else NAN,
        "first_right_own": float(first_right and first_own),
        "first_right_other": float(first_right and not first_own),
        "first_wrong_own": float(not first_right and first_own),
        "first_wrong_other": float(not first_right and not first_own),
    }
    for k in (10, 100):
        figures[f"complete@{k}"] = float(ranks[-1] <= k) if 0 < count <= k else NAN
        for name, level in (("answers", True), ("others", False)):
            figures[f"peer_{name}@{k}"] = _peer(order, [c in positives for c in order], level, k, language_of)
    return {name: value if ranks else NAN for name, value in figures.items()}


def _dcg(gains: list[float]) -> float:
    return sum(gain / math.log2(1 + rank) for rank, gain in enumerate(gains[:10], start=1))


def _peer(order: list[int], right: list[bool], level: bool, k: int, language_of: list[str]) -> float:
    """scipy ranks the ranks of the level anew; below the cutoff all are given one rank, which is a tie."""
    groups: dict[str, list[float]] = {}
    for rank, (c, is_right) in enumerate(zip(order, right, strict=True), start=1):
        if is_right == level:
            groups.setdefault(language_of[c], []).append(float(min(rank, k + 1)))
    if len(groups) < 2 or max(map(len, groups.values())) < 2:
        return NAN
    if len({rank for ranks in groups.values() for rank in ranks}) == 1:
        return 1.0  # scipy gives no figure where all are tied
    return float(scipy.stats.kruskal(*groups.values()).pvalue)
