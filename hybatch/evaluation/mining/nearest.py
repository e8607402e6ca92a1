"""The best rows of a matrix for each query, by the searches that collections use.

Q queries, D rows, H embedding width, K rows retrieved.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from hybatch.evaluation.collection.search import BLOCK_ROWS, BUILDERS, Found, import_faiss
from hybatch.evaluation.collection.topk import TopK

Nearest = Callable[[np.ndarray, int], Found]
"""(queries [Q, H] float32, K) to the K best rows of each."""

_APPROXIMATE_SCORES = ("faiss-ivf-pq",)
_QUERIES_RESCORED_AT_ONCE = 256


class Rows:
    """Embeddings in memory, as the builders of faiss's indexes read them."""

    def __init__(self, rows_DH: np.ndarray) -> None:
        self._rows_DH = rows_DH
        self.width: int = rows_DH.shape[1]

    def __len__(self) -> int:
        return len(self._rows_DH)

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """float32 [n, H]."""
        return self._rows_DH[numbers]


def nearest(method: str, rows_DH: np.ndarray, device: str) -> Nearest:
    """The search over `rows_DH` [D, H] float32 by inner product; an index of faiss is built once, on the CPU.

    With `torch` equal scores go to the smaller row. Scores are exact whatever the method.

    Args:
        method: see `hybatch.evaluation.collection.search.search`.
        device: where `torch` computes.

    Raises:
        UserError: faiss is not installed.
    """
    if method == "torch":
        return lambda queries_QH, k: _search_blocks(queries_QH, rows_DH, k, device)
    index = BUILDERS[method](import_faiss(), Rows(rows_DH), Rows(rows_DH), False)
    index.add(rows_DH)

    def search(queries_QH: np.ndarray, k: int) -> Found:
        scores_QK, found_QK = index.search(queries_QH, k)
        scores_QK = np.where(found_QK < 0, -np.inf, scores_QK).astype(np.float32)
        if method in _APPROXIMATE_SCORES:
            return _rescore(queries_QH, rows_DH, found_QK)
        return scores_QK, found_QK.astype(np.int64)

    return search


def _search_blocks(queries_QH: np.ndarray, rows_DH: np.ndarray, k: int, device: str) -> Found:
    best = TopK(torch.from_numpy(queries_QH).to(device), k)
    for first in range(0, len(rows_DH), BLOCK_ROWS):
        best.add(torch.from_numpy(rows_DH[first : first + BLOCK_ROWS]), first)
    return best.result()


def _rescore(queries_QH: np.ndarray, rows_DH: np.ndarray, found_QK: np.ndarray) -> Found:
    """Exact scores of what was found, and its order by them."""
    scores_QK = np.empty(found_QK.shape, dtype=np.float32)
    for start in range(0, len(found_QK), _QUERIES_RESCORED_AT_ONCE):
        part = slice(start, start + _QUERIES_RESCORED_AT_ONCE)
        scores_QK[part] = np.einsum("qh,qkh->qk", queries_QH[part], rows_DH[found_QK[part]])
    scores_QK[found_QK < 0] = -np.inf
    order_QK = np.lexsort((found_QK, -scores_QK), axis=1)
    return np.take_along_axis(scores_QK, order_QK, 1), np.take_along_axis(found_QK, order_QK, 1).astype(np.int64)
