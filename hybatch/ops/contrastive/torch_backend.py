"""What lies between the products in plain PyTorch: the fallback, and what the other backends are tested against.

Shape suffixes: Q queries, D candidates, H embedding width; q and d those of one tile.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hybatch.ops.contrastive.masking import EMPTY_SLOT, comparable_groups, mask_logits_, unpack_pairs
from hybatch.ops.contrastive.tiles import RunningSums, Tiles, Upstream, Weights


class TorchTiles(Tiles):
    """Many passes over a tile, each of them an operation of torch, on any device and also in float64."""

    def __init__(self, *pairs: Any) -> None:
        super().__init__(*pairs)
        self._empty = self.candidate_groups == EMPTY_SLOT
        self.query_groups, self.candidate_groups = comparable_groups(self.query_groups, self.candidate_groups)
        self._mask_buffer = torch.empty_like(self._buffer, dtype=torch.bool)

    def add_sums(
        self, rows: slice, columns: slice, row_sums: RunningSums, column_sums: RunningSums | None, positive_Q: Tensor
    ) -> None:
        tile_qd = self._logits(rows, columns, positive_Q)
        _add(row_sums, rows, tile_qd, dim=1)
        if column_sums is not None:
            _add(column_sums, columns, tile_qd, dim=0)

    def known_weights(self, rows: slice, columns: slice, upstream: Upstream) -> Weights:
        tile_qd = self._logits(rows, columns, None)
        by_column_qd = None
        if len(upstream.column_lse_D):
            by_column_qd = (tile_qd - upstream.column_lse_D[columns]).exp_().mul_(upstream.grad_column_lse_D[columns])
        weights_qd = tile_qd.sub_(upstream.row_lse_Q[rows, None]).exp_().mul_(upstream.grad_row_lse_Q[rows, None])
        if by_column_qd is not None:
            weights_qd += by_column_qd
        self._add_to_positives_(weights_qd, rows, columns, upstream.grad_positive_Q[rows])
        return Weights(weights_qd, self.scale)

    def loss_weights(self, rows: slice, row_sums: RunningSums, positive_Q: Tensor) -> Weights:
        all_columns = slice(0, len(self.candidates))
        tile_qd = self._logits(rows, all_columns, positive_Q)
        peak_q = tile_qd.amax(1)
        weights_qd = tile_qd.sub_(peak_q[:, None]).exp_()
        sum_q = weights_qd.sum(1)
        row_sums.peaks[rows], row_sums.sums[rows] = peak_q, sum_q
        # Within the tile the positive's weight, p - 1, loses no digits, and is exactly 0 where nothing else counts.
        self._add_to_positives_(weights_qd, rows, all_columns, -sum_q)
        return Weights(weights_qd, (self.scale / sum_q)[:, None])

    def _logits(self, rows: slice, columns: slice, positive_Q: Tensor | None) -> Tensor:
        """The tile [q, d]; the logits of positives that are in it also go to `positive_Q`."""
        tile_qd = self.products(self.queries[rows] * self.scale, columns)
        place_q1, inside_q1 = self._positives_in(rows, columns)
        own_q1 = tile_qd.gather(1, place_q1)
        mask_logits_(
            tile_qd,
            self.query_groups[rows],
            self.candidate_groups[columns],
            self._empty[columns],
            self._mask_buffer[: tile_qd.numel()].view(tile_qd.shape),
        )
        if self.left_out is not None:
            tile_qd.masked_fill_(unpack_pairs(self.left_out[rows], columns), float("-inf"))
        tile_qd.scatter_(1, place_q1, torch.where(inside_q1, own_q1, tile_qd.gather(1, place_q1)))
        if positive_Q is not None:
            positive_Q[rows] += torch.where(inside_q1, own_q1, 0.0).squeeze(1)
        return tile_qd

    def _add_to_positives_(self, weights_qd: Tensor, rows: slice, columns: slice, amount_q: Tensor) -> None:
        """Add to the weight of each positive that stands in the tile."""
        place_q1, inside_q1 = self._positives_in(rows, columns)
        weights_qd.scatter_add_(1, place_q1, torch.where(inside_q1, amount_q[:, None], 0.0))

    def _positives_in(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        """Column of each positive within the tile, [q, 1], any column where it is outside, and whether it is inside."""
        place_q1 = self.positive_index[rows, None] - columns.start
        width = columns.stop - columns.start
        return place_q1.clamp(0, width - 1), (place_q1 >= 0) & (place_q1 < width)


def _add(sums: RunningSums, where: slice, tile: Tensor, dim: int) -> None:
    """Take up a tile whose entries along the other dimension are those of `where`."""
    peak = torch.maximum(sums.peaks[where], tile.amax(dim))
    # -inf - -inf would be NaN: while all is masked, measure from 0.
    origin = peak.masked_fill(peak == float("-inf"), 0.0)
    new_sums = (tile - origin.unsqueeze(dim)).exp_().sum(dim)
    sums.sums[where] = sums.sums[where] * (sums.peaks[where] - origin).exp() + new_sums
    sums.peaks[where] = peak
