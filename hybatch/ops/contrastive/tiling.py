"""How large a piece of the logits is held at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

# Bytes of a tile: usually, and where that would leave it few rows, whose share of the candidates' gradients costs more
# to add than to compute. On CPUs the first is what C's allocator keeps for the next call: glibc hands back what is
# larger than 32 MiB, and its pages would be faulted in again at every call.
_TILE_BYTES = {"cpu": (3 * 2**23, 2**26)}
_ACCELERATOR_TILE_BYTES = (2**28, 2**28)
_FEW_ROWS = 512
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
    """Tiles of `block_size` in both directions, or by default of a bounded number of float32 bytes.

    By default a tile spans all candidates where that leaves it enough rows, for then one pass gives loss and gradients,
    and all tiles but the last are as tall as each other; otherwise it is square.
    """
    if block_size is not None:
        return Tiling(block_size, block_size, num_rows, num_columns)
    usual, most = (size // 4 for size in _TILE_BYTES.get(device.type, _ACCELERATOR_TILE_BYTES))
    columns = max(1, num_columns)
    rows = max(usual // columns, min(_FEW_ROWS, most // columns))
    if rows >= min(_LEAST_ROWS, num_rows):
        return Tiling(max(1, _even_share(num_rows, rows)), columns, num_rows, num_columns)
    side = int(most**0.5)
    return Tiling(side, side, num_rows, num_columns)


def _even_share(length: int, most: int) -> int:
    """The share of each of the fewest parts of at most `most`."""
    return math.ceil(length / math.ceil(length / most)) if length else 0


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
