"""What lies between torch's products, on a CPU, in one vectorised pass of C++ (csrc/contrastive/cpu/product_tile.h).

Where the library behind torch's product, MKL for one, is faster than the tiles of the cpu backend, this is, too; and it
reads a tile once or twice, where plain PyTorch does with every operation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybatch.ops.contrastive.tiles import RunningSums, Tiles, Upstream, Weights

_VECTOR = 32
"""Columns that no kernel cuts: those of AVX-512's tiles."""


class BlasTiles(Tiles):
    """Tiles in float32."""

    def row_length(self, columns: int) -> int:
        # Rows a power of two apart would compete for the same places in a cache.
        return -(-columns // _VECTOR) * _VECTOR + _VECTOR

    def add_sums(
        self, rows: slice, columns: slice, row_sums: RunningSums, column_sums: RunningSums | None, positive_Q: Tensor
    ) -> None:
        none = row_sums.sums[:0]
        of_columns = (none, none) if column_sums is None else (column_sums.peaks[columns], column_sums.sums[columns])
        torch.ops.hybatch.contrastive_add_sums_(
            self.products(self.queries[rows], columns),
            row_sums.peaks[rows],
            row_sums.sums[rows],
            positive_Q[rows],
            *of_columns,
            *self._labels(rows, columns),
            columns.start,
            self._left_out(rows),
        )

    def known_weights(self, rows: slice, columns: slice, upstream: Upstream) -> Weights:
        tile_qs = self.products(self.queries[rows], columns)
        torch.ops.hybatch.contrastive_known_weights_(
            tile_qs,
            *self._labels(rows, columns),
            columns.start,
            upstream.row_lse_Q[rows],
            upstream.grad_row_lse_Q[rows],
            upstream.grad_positive_Q[rows],
            upstream.column_lse_D[columns],
            upstream.grad_column_lse_D[columns],
            self._left_out(rows),
        )
        return Weights(tile_qs[:, : columns.stop - columns.start], None)

    def loss_weights(self, rows: slice, row_sums: RunningSums, positive_Q: Tensor) -> Weights:
        all_columns = slice(0, len(self.candidates))
        tile_qs = self.products(self.queries[rows], all_columns)
        torch.ops.hybatch.contrastive_loss_weights_(
            tile_qs,
            row_sums.peaks[rows],
            row_sums.sums[rows],
            positive_Q[rows],
            *self._labels(rows, all_columns),
            self._left_out(rows),
        )
        return Weights(tile_qs[:, : len(self.candidates)], None)

    def _labels(self, rows: slice, columns: slice) -> tuple[Tensor, ...]:
        return self.positive_index[rows], self.query_groups[rows], self.candidate_groups[columns], self.scale

    def _left_out(self, rows: slice) -> Tensor | None:
        return None if self.left_out is None else self.left_out[rows]
