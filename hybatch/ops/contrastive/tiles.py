"""What every streaming backend of the contrastive ops has: the pairs cut into tiles, their products, running sums.

Shape suffixes: Q queries, D candidates, H embedding width; q and d those of one tile; s places of a tile's row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from hybatch.ops.contrastive.tiling import Tiling, choose_tiling


class RunningSums:
    """Log-sum-exps of values that come in tiles: the largest so far, and the sum of exponentials relative to it."""

    def __init__(self, length: int, like: Tensor) -> None:
        self.peaks = torch.full((length,), float("-inf"), dtype=like.dtype, device=like.device)
        self.sums = torch.zeros_like(self.peaks)

    def result(self) -> Tensor:
        return self.peaks + self.sums.log()


class Upstream(NamedTuple):
    """What a backward pass is given; infinity is the log-sum-exp of what nothing took part in."""

    row_lse_Q: Tensor
    grad_row_lse_Q: Tensor
    grad_positive_Q: Tensor
    column_lse_D: Tensor
    """[0], as its gradient, without column term."""
    grad_column_lse_D: Tensor


class Weights(NamedTuple):
    """Gradients of the queries' products with the candidates: factor times weight."""

    weights_qd: Tensor
    factor: Tensor | None
    """[q, 1] or []; None: one."""


class Tiles(ABC):
    """The logits of all pairs, a tile at a time in one buffer that the next tile overwrites.

    A subclass is a way to do what lies between the matrix products.
    """

    def __init__(
        self,
        queries: Tensor,
        candidates: Tensor,
        positive_index: Tensor,
        query_groups: Tensor,
        candidate_groups: Tensor,
        scale: Tensor,
        left_out: Tensor | None,
        block_size: int | None,
    ) -> None:
        self.queries, self.candidates = queries.to(scale.dtype), candidates.to(scale.dtype)
        self.positive_index = positive_index
        self.query_groups, self.candidate_groups = query_groups, candidate_groups
        self.scale = scale
        self.left_out = left_out
        self.tiling: Tiling = choose_tiling(len(queries), len(candidates), queries.device, block_size)
        rows, columns = min(self.tiling.rows, len(queries)), min(self.tiling.columns, len(candidates))
        self._buffer = self.queries.new_empty(rows * self.row_length(columns))

    def row_length(self, columns: int) -> int:
        """Places of a row of a tile of so many columns."""
        return columns

    def products(self, queries_qH: Tensor, columns: slice) -> Tensor:
        """[q, s]: the inner products with the candidates, and behind each row's whatever was there."""
        num_columns = columns.stop - columns.start
        length = self.row_length(num_columns)
        tile_qs = self._buffer[: len(queries_qH) * length].view(len(queries_qH), length)
        torch.mm(queries_qH, self.candidates[columns].T, out=tile_qs[:, :num_columns])
        return tile_qs

    @abstractmethod
    def add_sums(
        self, rows: slice, columns: slice, row_sums: RunningSums, column_sums: RunningSums | None, positive_Q: Tensor
    ) -> None:
        """Take the tile's logits up into the sums of its rows and columns, and write those of its positives."""

    @abstractmethod
    def known_weights(self, rows: slice, columns: slice, upstream: Upstream) -> Weights:
        """Of the tile, for log-sum-exps that are known."""

    @abstractmethod
    def loss_weights(self, rows: slice, row_sums: RunningSums, positive_Q: Tensor) -> Weights:
        """Of a tile of all candidates, for the sum of row_lse - positive_logit, which are written, too."""


class Gradients:
    """Sums up what each tile's weights contribute."""

    def __init__(self, tiles: Tiles) -> None:
        self._tiles = tiles
        self._queries = torch.zeros_like(tiles.queries)
        self._candidates = torch.zeros_like(tiles.candidates)

    def add(self, rows: slice, columns: slice, found: Weights) -> None:
        weights_qd, factor = found
        queries_qH, candidates_dH = self._tiles.queries[rows], self._tiles.candidates[columns]
        if factor is None:
            self._queries[rows].addmm_(weights_qd, candidates_dH)
        else:
            self._queries[rows] += (weights_qd @ candidates_dH).mul_(factor)
            queries_qH = queries_qH * factor
        self._candidates[columns].addmm_(weights_qd.T, queries_qH)

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        # sum(weights * products), row by row: a query's gradient holds the sum over its candidates, times scale.
        products_Q = torch.linalg.vecdot(self._queries, self._tiles.queries)
        return self._queries, self._candidates, products_Q.sum() / self._tiles.scale
