"""Ready embeddings moved as a debiased encoder moves its vectors, so that one encoding serves every method of removal.

N rows, H embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hybatch.errors import UserError
from hybatch.evaluation.embeddings import EVERY_ROW, PARTS, Part, Rows, Similarity, StoredEmbeddings
from hybatch.evaluation.task import TextsTask
from hybatch.models.folder.debiased import RECORD
from hybatch.models.folder.finding import locate
from hybatch.models.folder.layout import Layout, read_layout
from hybatch.models.head import Dense

_ROWS_AT_ONCE = 1024


class DebiasedEmbeddings:
    """The embeddings of a task, taken from the encoder that was debiased, as the debiased one gives them.

    They agree with what the debiased encoder gives within rounding. A row has the same bits whichever others are asked
    for with it, and equal rows (of one language, where it goes by the language) stay equal.
    """

    similarity: Similarity = "cosine"

    def __init__(self, stored: StoredEmbeddings, task: TextsTask, layout: Layout) -> None:
        self._rows: Mapping[tuple[Part, str], np.ndarray] = {
            (part, language): _moved(
                stored.embeddings(part, language), layout, task.language_of(part, language), part, task
            )
            for part in PARTS
            for language in getattr(task, part)
        }

    def embeddings(self, part: Part, language: str, rows: Rows = EVERY_ROW) -> np.ndarray:
        """float32 [rows, H], of unit length."""
        return self._rows[part, language][rows]


def read_removal(folder: Path) -> Layout:
    """Everything but the backbone of a folder that `hybatch debias` wrote.

    Raises:
        UserError: it is none, or is damaged.
    """
    layout = read_layout(locate(str(folder)))
    if layout.debiased is None:
        raise UserError(f"--debias {folder}: holds no {RECORD}; give a folder that hybatch debias wrote")
    return layout


def check_width(stored: StoredEmbeddings, layout: Layout, folder: Path) -> None:
    """Refuse a removal that was fitted to vectors of another width.

    Raises:
        UserError: names both.
    """
    fitted = layout.head[-1].linear.in_features if layout.offsets is None else layout.offsets.offsets.shape[-1]
    if fitted != stored.width:
        raise UserError(
            f"--debias {folder}: was fitted to vectors of width {fitted}, but the embeddings have width "
            f"{stored.width}; give those of the model that it was made of"
        )
    if stored.similarity != "cosine":
        raise UserError(f"--debias {folder}: moves vectors that are compared by the cosine; give no --similarity dot")


def _moved(rows_NH: np.ndarray, layout: Layout, language: str, part: Part, task: TextsTask) -> np.ndarray:
    if layout.offsets is not None:
        return layout.offsets.moved(rows_NH, language, task.roles[part])
    return _projected(rows_NH, layout.head[-1])


def _projected(rows_NH: np.ndarray, layer: Dense) -> np.ndarray:
    """Behind the last layer, which projects: float32 [N, H], of unit length, computed in float64 row by row."""
    weight_HH = layer.linear.weight.detach().double().numpy()
    projected_NH = np.empty(rows_NH.shape, dtype=np.float32)
    for start in range(0, len(rows_NH), _ROWS_AT_ONCE):
        block_NH = rows_NH[start : start + _ROWS_AT_ONCE].astype(np.float64)
        # A library's product would give a row other bits in another block.
        block_NH = np.einsum("nh,kh->nk", block_NH, weight_HH, optimize=False)
        lengths_N1 = np.sqrt(np.square(block_NH).sum(axis=1, keepdims=True))
        projected_NH[start : start + _ROWS_AT_ONCE] = block_NH / np.where(lengths_N1 > 0, lengths_N1, 1)
    return projected_NH
