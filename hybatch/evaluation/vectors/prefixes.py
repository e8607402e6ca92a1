"""The first dimensions of embeddings, as vectors of their own.

N rows, H embedding width, d dimensions kept.
"""

from __future__ import annotations

import numpy as np

from hybatch.evaluation.embeddings import EVERY_ROW, Rows, Similarity, TaskEmbeddings
from hybatch.evaluation.task import Part


class PrefixEmbeddings:
    """The first d dimensions of every embedding, scaled to length 1 (Matryoshka, arXiv 2205.13147, section 3).

    A row has the same bits whichever others are asked for with it. A row whose first d dimensions are all zero stays
    zero.
    """

    similarity: Similarity = "cosine"

    def __init__(self, embeddings: TaskEmbeddings, dimensions: int) -> None:
        self._embeddings = embeddings
        self._dimensions = dimensions

    def embeddings(self, part: Part, language: str, rows: Rows = EVERY_ROW) -> np.ndarray:
        """float32 [N, d], scaled in float64."""
        # Numpy sums along a row in an order that depends on the layout of the array.
        prefix_Nd = np.ascontiguousarray(self._embeddings.embeddings(part, language, rows)[:, : self._dimensions])
        lengths_N1 = np.sqrt(np.square(prefix_Nd, dtype=np.float64).sum(axis=1, keepdims=True))
        return np.asarray(prefix_Nd / np.where(lengths_N1 > 0, lengths_N1, 1), dtype=np.float32)
