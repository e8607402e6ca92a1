"""A teacher's scores in an index: of a language's passages, row by row of its texts, and of its hard negatives.

They are tables of their own, `scores.passages.<lang>` and `scores.negatives.<lang>`, which an index without scores does
not have. A score is a float64, in the bits of the int64 that the column holds; NaN where none is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybatch.corpus.index.folder import Index, IndexWriter
from hybatch.corpus.rows import RowBatch

_COLUMN = "score"


class GatheredScores:
    """Those of the rows of one language, while they go by."""

    def __init__(self) -> None:
        self._any = False
        self._passages: list[NDArray[np.float64]] = []
        self._negatives: list[NDArray[np.float64]] = []

    def add(self, batch: RowBatch) -> None:
        """Take up those of some rows, which `check_batch` has found good."""
        self._any |= batch.scores is not None
        negatives = batch.negatives or [[]] * len(batch.ids)
        rows = batch.scores or [None] * len(batch.ids)
        filled = [[None] * (1 + len(of)) if row is None else row for row, of in zip(rows, negatives, strict=True)]
        self._passages.append(_numbers([row[0] for row in filled]))
        self._negatives.append(_numbers([score for row in filled for score in row[1:]]))

    def write(self, writer: IndexWriter, language: str) -> None:
        """Write the tables, if any row has a score."""
        if not self._any:
            return
        for part, gathered in (("passages", self._passages), ("negatives", self._negatives)):
            writer.write_numbers(f"scores.{part}.{language}", {_COLUMN: np.concatenate(gathered).view(np.int64)})


def _numbers(scores: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([math.nan if score is None else score for score in scores], dtype=np.float64)


def has_scores(index: Index, language: str) -> bool:
    """Whether any row of a language has a score."""
    return f"scores.passages.{language}" in index.tables


def read_scores(
    index: Index, part: str, language: str, rows: NDArray[np.int64] | slice = slice(None)
) -> NDArray[np.float64]:
    """float64 [rows]; NaN for a row that is not there, which -1 stands for.

    Args:
        part: "passages", by rows of the language's texts, or "negatives", by rows of its hard negatives.
    """
    table = index.table(f"scores.{part}.{language}")
    if isinstance(rows, slice):
        return np.asarray(table.numbers(_COLUMN, rows)).view(np.float64)
    there = (rows >= 0) & (rows < table.num_rows)
    scores = np.full(len(rows), math.nan)
    scores[there] = np.asarray(table.numbers(_COLUMN, rows[there])).view(np.float64)
    return scores
