"""Queries that are passages of the collection too: what has a query's id is the query itself, and no answer to it.

Q queries, K passages retrieved, P relevant passages of all queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from hybatch.evaluation.collection.judgements import QuerySet

OwnDocuments = Literal["leave-out", "keep"]
"""What becomes of the passage that has a query's own id: BEIR leaves it out of what is retrieved."""
OWN_DOCUMENTS: tuple[OwnDocuments, ...] = get_args(OwnDocuments)


def left_out(one: QuerySet, rule: OwnDocuments) -> np.ndarray:
    """int64 [Q]: the passage that does not count for each query, -1 where all do.

    A passage that is judged relevant counts: there the ids of query and passage are equal by chance.
    """
    own_Q = np.array(one.own or [-1] * len(one.ids), dtype=np.int64)
    judged_Q = np.array([number in row for number, row in zip(own_Q.tolist(), one.relevant, strict=True)], dtype=bool)
    own_Q[judged_Q if rule == "leave-out" else slice(None)] = -1
    return own_Q


def own_documents(sets: Mapping[str, QuerySet], rule: OwnDocuments) -> dict[str, dict[str, int]]:
    """Language -> passages with their query's id that are left out, and that are kept; of languages that have any."""
    counts = {}
    for language, one in sets.items():
        if one.own:
            out = int((left_out(one, rule) >= 0).sum())
            counts[language] = {"left_out": out, "kept": sum(number >= 0 for number in one.own) - out}
    return counts


def without(own_Q: np.ndarray, scores_QK: np.ndarray, found_QK: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k passages retrieved that are not the query itself; -inf and -1 where there were fewer."""
    own_QK = (found_QK == own_Q[:, None]) & (own_Q[:, None] >= 0)
    order_QK = np.argsort(own_QK, axis=1, kind="stable")[:, :k]
    scores_QK, found_QK = np.where(own_QK, -np.inf, scores_QK).astype(np.float32), np.where(own_QK, -1, found_QK)
    return np.take_along_axis(scores_QK, order_QK, axis=1), np.take_along_axis(found_QK, order_QK, axis=1)


def counted(relevant: list[dict[int, int]], own_Q: np.ndarray) -> list[dict[int, int]]:
    """The relevant passages of every query, and behind them the one left out, which is to be ranked beside them."""
    return [
        {**row, number: 0} if row and number >= 0 else row for row, number in zip(relevant, own_Q.tolist(), strict=True)
    ]


def ranks_without(ranks_P: np.ndarray, offsets: np.ndarray, own_Q: np.ndarray) -> np.ndarray:
    """The ranks of the relevant passages alone, as they are where the passages left out are not there.

    Args:
        ranks_P: int64, of what `counted` gives.
        offsets: int64 [Q + 1]: query i has ranks_P[offsets[i]:offsets[i + 1]].
    """
    sizes_Q = np.diff(offsets)
    with_own_Q = (own_Q >= 0) & (sizes_Q > 0)
    own_places = offsets[1:][with_own_Q] - 1
    own_ranks_Q = np.full(len(own_Q), np.iinfo(np.int64).max)
    own_ranks_Q[with_own_Q] = ranks_P[own_places]
    before_P = np.repeat(own_ranks_Q, sizes_Q) < ranks_P
    return np.delete(ranks_P - before_P, own_places)
