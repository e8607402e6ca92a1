"""The field's metrics of retrieved passages, as trec_eval defines them.

Q queries, K passages retrieved a query, best first; -1 where fewer were found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np


def ndcg(ranked: Sequence[int], relevant: dict[int, int], k: int) -> float:
    """Sum of grade / log2(rank + 1) over the first k, over that of the best order (linear gain)."""
    gains = [relevant.get(passage, 0) for passage in ranked[:k]]
    ideal = sorted(relevant.values(), reverse=True)[:k]
    return _discounted(gains) / _discounted(ideal)


def recall(ranked: Sequence[int], relevant: dict[int, int], k: int) -> float:
    """Share of the relevant passages within the first k."""
    return sum(passage in relevant for passage in ranked[:k]) / len(relevant)


def mrr(ranked: Sequence[int], relevant: dict[int, int], k: int) -> float:
    """1 / rank of the first relevant passage, 0 where none is within the first k."""
    return next((1 / place for place, passage in enumerate(ranked[:k], 1) if passage in relevant), 0.0)


def average_precision(ranked: Sequence[int], relevant: dict[int, int], k: int) -> float:
    """Sum over the relevant passages within the first k of the precision at their rank, over all relevant ones."""
    places = [place for place, passage in enumerate(ranked[:k], 1) if passage in relevant]
    return sum(found / place for found, place in enumerate(places, 1)) / len(relevant)


METRICS: dict[str, Callable[[Sequence[int], dict[int, int], int], float]] = {
    "ndcg": ndcg,
    "recall": recall,
    "mrr": mrr,
    "map": average_precision,
}


def per_query(metric: str, ranked_QK: np.ndarray, relevant: Sequence[dict[int, int]]) -> np.ndarray:
    """float64 [Q]: a metric, named such as "ndcg@10", of each query; NaN where it has no relevant passage."""
    name, _, cutoff = metric.partition("@")
    return np.array(
        [
            METRICS[name](row, grades, int(cutoff)) if grades else math.nan
            for row, grades in zip(ranked_QK.tolist(), relevant, strict=True)
        ],
        dtype=np.float64,
    )


def _discounted(gains: Sequence[int]) -> float:
    return math.fsum(gain / math.log2(place + 1) for place, gain in enumerate(gains, 1))
