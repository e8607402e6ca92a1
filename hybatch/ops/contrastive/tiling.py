"""How large a piece of the logits is held at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

_TILE_BYTES = {"cpu": 2**26}
_ACCELERATOR_TILE_BYTES = 2**28
# Below this many rows a product reads its other operand more often than it computes with it.
_LEAST_ROWS = 64


@dataclass(frozen=True)
class Tiling:
    """Tiles of at most `rows` queries by `columns` candidates, over num_rows x num_columns logits."""

    rows: int
    columns: int
    num_rows: int
    num_columns: int

    @property
    def has_whole_rows(self) -> bool:
        """Whether a tile holds all logits of its queries."""
        return self.columns >= self.num_columns

    def row_slices(self) -> Iterator[slice]:
        return _slices(self.num_rows, self.rows)

    def column_slices(self) -> Iterator[slice]:
        return _slices(self.num_columns, self.columns)


def choose_tiling(num_rows: int, num_columns: int, device: torch.device, block_size: int | None) -> Tiling:
    """Tiles of `block_size` in both directions, or by default of a fixed number of float32 bytes.

    By default a tile spans all candidates where that leaves it enough rows, for then one pass gives loss and gradients;
    otherwise it is square.
    """
    if block_size is not None:
        return Tiling(block_size, block_size, num_rows, num_columns)
    logits = _TILE_BYTES.get(device.type, _ACCELERATOR_TILE_BYTES) // 4
    rows = logits // max(1, num_columns)
    if rows >= min(_LEAST_ROWS, num_rows):
        return Tiling(max(1, rows), max(1, num_columns), num_rows, num_columns)
    side = int(logits**0.5)
    return Tiling(side, side, num_rows, num_columns)


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
