"""The kinds of vectors that passages can be stored as, and what the embeddings of a task become as each.

N rows, d dimensions, B = ceil(d / 8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hybatch.evaluation.embeddings import EVERY_ROW, Rows, Similarity, TaskEmbeddings
from hybatch.evaluation.task import Part, TextsTask

_LARGEST_CODE = 127
_ROWS_AT_ONCE = 2**14


@dataclass(frozen=True)
class VectorKind:
    """One way to store vectors.

    of: the embeddings of a task, of unit length, to those of this kind.
    """

    name: str
    summary: str
    bits: int
    """Of a dimension."""
    of: Callable[[TaskEmbeddings, TextsTask], TaskEmbeddings]

    def bytes_of(self, dimensions: int) -> int:
        """Bytes that a passage's vector takes."""
        return -(-dimensions * self.bits // 8)


class WholeNumbers:
    """int8 codes from -127 to 127, compared by their inner product.

    Candidates: code = round((value - middle) * scale). The middle of a dimension is that between its least and greatest
    value over the candidates of all languages; the scale is one for all dimensions, such that the widest range just
    fits. Linear quantisation of this kind, with a zero point, is that of arXiv 1712.05877, section 2.1. Inner products
    with whole codes then keep the order of scores but for rounding: the middles add the same to all scores of a query,
    and one scale weighs all dimensions alike. (A scale a dimension, as sentence-transformers' `quantize_embeddings` has
    it, weighs those of a narrow range more than the encoder does.)

    Queries: code = round(value * scale), with a scale a query, such that its largest value just fits: it multiplies all
    scores of the query, and changes no rank. Nothing has to be clipped, but for rounding.
    """

    similarity: Similarity = "dot"

    def __init__(self, embeddings: TaskEmbeddings, task: TextsTask) -> None:
        self._embeddings = embeddings
        lowest_d, highest_d = _ranges(embeddings, task)
        self._middle_d = (lowest_d + highest_d) / 2
        widest = float((highest_d - lowest_d).max()) / 2
        self._scale = _LARGEST_CODE / widest if widest > 0 else 0.0

    def embeddings(self, part: Part, language: str, rows: Rows = EVERY_ROW) -> np.ndarray:
        """int8 [N, d]."""
        values_Nd = self._embeddings.embeddings(part, language, rows).astype(np.float64)
        if part == "candidates":
            return _rounded((values_Nd - self._middle_d) * self._scale)
        largest_N1 = np.abs(values_Nd).max(axis=1, keepdims=True)
        return _rounded(values_Nd * (_LARGEST_CODE / np.where(largest_N1 > 0, largest_N1, 1)))


def _ranges(embeddings: TaskEmbeddings, task: TextsTask) -> tuple[np.ndarray, np.ndarray]:
    """float64 [d] each: the least and greatest value of every dimension over the candidates of all languages."""
    ends = []
    for language, texts in task.candidates.items():
        for first in range(0, len(texts), _ROWS_AT_ONCE):
            block_Nd = embeddings.embeddings("candidates", language, slice(first, first + _ROWS_AT_ONCE))
            ends.append((block_Nd.min(axis=0), block_Nd.max(axis=0)))
    lowest, highest = zip(*ends, strict=True)
    return np.min(lowest, axis=0).astype(np.float64), np.max(highest, axis=0).astype(np.float64)


def _rounded(values_Nd: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values_Nd), -_LARGEST_CODE, _LARGEST_CODE).astype(np.int8)


class Signs:
    """One bit a dimension, set where the value is above zero, compared by how many bits differ (Hamming distance)."""

    # The inner product of +1 and -1, see hybatch.ops.codes.
    similarity: Similarity = "dot"

    def __init__(self, embeddings: TaskEmbeddings, task: TextsTask) -> None:
        self._embeddings = embeddings

    def embeddings(self, part: Part, language: str, rows: Rows = EVERY_ROW) -> np.ndarray:
        """uint8 [N, B], bits of a byte from the highest; the last byte is filled up with zeros."""
        return np.packbits(self._embeddings.embeddings(part, language, rows) > 0, axis=1)


def _as_they_are(embeddings: TaskEmbeddings, task: TextsTask) -> TaskEmbeddings:
    return embeddings


VECTOR_KINDS = {
    kind.name: kind
    for kind in (
        VectorKind("float32", "as the encoder gives them", 32, _as_they_are),
        VectorKind("int8", "whole numbers from -127 to 127, compared by their inner product", 8, WholeNumbers),
        VectorKind("binary", "signs, compared by their Hamming distance", 1, Signs),
    )
}
"""By the name that --vectors has for it."""
