"""Every figure of an evaluation by brute force: float64 scores, a stable sort of each pool, plain loops.

Shares nothing with the package but the task's tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hybatch.evaluation.settings.task import RetrievalTask


def oracle_results(
    queries: Mapping[str, np.ndarray], candidates: Mapping[str, np.ndarray], task: RetrievalTask
) -> dict[str, Any]:
    """ "pairs", "multilingual", "summary" and "ties" as results.json has them; scores are plain inner products."""
    pool = np.concatenate([candidates[language] for language in task.languages]).astype(np.float64)
    sizes = [len(candidates[language]) for language in task.languages]
    ends = np.cumsum(sizes)
    slices = {language: slice(end - n, end) for language, n, end in zip(task.languages, sizes, ends, strict=True)}
    pairs: dict[str, dict[str, Any]] = {}
    multilingual: dict[str, Any] = {}
    tied, optimistic, pessimistic = 0, [], []
    for language in task.languages:
        rows = {other: [] for other in task.languages}
        whole, best, worst = [], [], []
        for query, positives in zip(queries[language].astype(np.float64), task.positives[language], strict=True):
            scores = pool @ query
            for other in task.languages:
                part = slices[other]
                inside = [p - part.start for p in positives if part.start <= p < part.stop]
                rows[other].append(_ranks(scores[part], inside))
            whole.append(_ranks(scores, positives))
            shared = sum(int((scores == scores[p]).sum() > 1) for p in positives)
            tied += shared
            rest = np.delete(np.arange(len(pool)), positives)
            for ranks, order in ((best, (positives, rest)), (worst, (rest, positives))):
                bound = _ranks_in_order(scores, positives, np.concatenate(order).astype(int)) if shared else whole[-1]
                ranks.append(bound)
        pairs[language] = {other: _figures(rows[other]) for other in task.languages}
        multilingual[language] = _figures(whole)
        distances = [float(r[-1] - r[0]) for r in whole if len(r)]
        multilingual[language]["rank_distance"] = float(np.mean(distances)) if distances else None
        optimistic.append(_figures(best)["map"])
        pessimistic.append(_figures(worst)["map"])
    return {
        "pairs": pairs,
        "multilingual": multilingual,
        "summary": _summary(pairs, multilingual),
        "ties": {
            "positives_tied": tied,
            "map_optimistic": _mean(optimistic),
            "map_pessimistic": _mean(pessimistic),
        },
    }


def _ranks(scores: np.ndarray, positives: list[int]) -> np.ndarray:
    return _ranks_in_order(scores, positives, range(len(scores)))


def _ranks_in_order(scores: np.ndarray, positives: list[int], order: np.ndarray | range) -> np.ndarray:
    """Ranks of the positives after a stable descending sort of the candidates, which stand in `order` before it."""
    if not positives:
        return np.empty(0, dtype=np.int64)
    before = np.asarray(order)
    descending = -scores[before]
    if (np.rint(descending) == descending).all() and np.abs(descending).max() < 2**15:
        descending = descending.astype(np.int16)  # the same order, sorted far faster
    after = before[np.argsort(descending, kind="stable")]
    place = np.empty(len(scores), dtype=np.int64)
    place[after] = np.arange(1, len(scores) + 1)
    return np.sort(place[positives])


def _figures(ranks_of_queries: list[np.ndarray]) -> dict[str, Any]:
    counted = [ranks for ranks in ranks_of_queries if len(ranks)]
    figures: dict[str, Any] = {
        "map": _mean([float(np.mean([(i + 1) / r for i, r in enumerate(ranks)])) for ranks in counted]),
        "num_queries": len(counted),
        "num_skipped": len(ranks_of_queries) - len(counted),
    }
    for k in (1, 10):
        figures[f"recall@{k}"] = _mean([sum(r <= k for r in ranks) / len(ranks) for ranks in counted])
        figures[f"hit@{k}"] = _mean([float(ranks[0] <= k) for ranks in counted])
    return figures


def _mean(values: list[Any]) -> float | None:
    present = [float(value) for value in values if value is not None]
    return float(np.mean(present)) if present else None


def _summary(pairs: dict[str, dict[str, Any]], multilingual: dict[str, Any]) -> dict[str, Any]:
    keys = ("map", "recall@1", "recall@10", "hit@1", "hit@10")
    cells = {
        "monolingual": [pairs[x][x] for x in pairs],
        "cross_lingual": [pairs[x][y] for x in pairs for y in pairs if x != y],
        "multilingual": list(multilingual.values()),
    }
    summary = {
        setting: {key: _mean([figures[key] for figures in listed]) for key in keys} for setting, listed in cells.items()
    }
    summary["multilingual"]["rank_distance"] = _mean([figures["rank_distance"] for figures in multilingual.values()])
    for setting, listed in cells.items():
        summary[setting]["num_settings"] = sum(figures["num_queries"] > 0 for figures in listed)
    return summary


def largest_difference(found: Any, expected: Any, path: str = "") -> tuple[float, str]:
    """The largest difference between the numbers of two equal structures, and where; infinite where they differ.

    Relative where the expected number is greater than 1: rank distances are in the thousands.
    """
    if isinstance(expected, dict):
        if not isinstance(found, dict) or not expected.keys() <= found.keys():
            return float("inf"), path
        return max((largest_difference(found[k], v, f"{path}/{k}") for k, v in expected.items()), default=(0.0, path))
    if expected is None or found is None:
        return (0.0 if found is expected else float("inf")), path
    return abs(found - expected) / max(1.0, abs(expected)), path
