"""The contrastive ops in plain PyTorch, tile by tile: the fallback, and what the compiled ops are tested against.

The three functions are also the contract of the compiled ops of the same names, which have no `block_size`.
Logits are S[q, d] = scale * <query q, candidate d> over the pairs that take part (see `masking`). Everything is
float32, or float64 for embeddings in float64, whatever autocast says.

Shape suffixes: Q queries, D candidates, H embedding width; q and d those of one tile.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybatch.ops.contrastive.masking import EMPTY_SLOT, comparable_groups, mask_logits_, unpack_pairs
from hybatch.ops.contrastive.tiling import Tiling, choose_tiling


def contrastive_forward(
    queries: Tensor,
    candidates: Tensor,
    positive_index: Tensor,
    query_groups: Tensor,
    candidate_groups: Tensor,
    scale: Tensor,
    want_columns: bool,
    left_out: Tensor | None = None,
    *,
    block_size: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-sum-exp of every query's logits, and of every candidate's, and the logits of the positives.

    Args:
        queries: [Q, H], float32, bfloat16, float16 (or float64, which the compiled ops do not know).
        candidates: [D, H], same dtype.
        positive_index: [Q] int64, the positive's row in `candidates`; -1 where it is not among them.
        query_groups: [Q] int64.
        candidate_groups: [D] int64.
        scale: [] float32 (float64 with float64).
        want_columns: whether to compute `column_lse`.
        left_out: [Q, ceil(D / 8)] uint8, further pairs that take no part, as `masking.pack_pairs` packs them.
        block_size: see `tiling`.

    Returns:
        row_lse [Q], -inf for a query without candidates; positive_logit [Q], the very number that is in row_lse, 0
        where positive_index is -1; column_lse [D], -inf for a candidate without queries, or [0] if not wanted.
    """
    pairs = (queries, candidates, positive_index, query_groups, candidate_groups, scale)
    logits = _TiledLogits(*pairs, left_out, block_size)
    rows = _RunningLogSumExp(len(queries), scale)
    columns = _RunningLogSumExp(len(candidates) if want_columns else 0, scale)
    positive_Q = scale.new_zeros(len(queries))
    for rows_q in logits.tiling.row_slices():
        for columns_d in logits.tiling.column_slices():
            tile_qd = logits.compute(rows_q, columns_d)
            positive_Q[rows_q] += logits.positives_of_tile
            rows.add(rows_q, tile_qd, dim=1)
            if want_columns:
                columns.add(columns_d, tile_qd, dim=0)
    return rows.result(), positive_Q, columns.result()


def contrastive_backward(
    queries: Tensor,
    candidates: Tensor,
    positive_index: Tensor,
    query_groups: Tensor,
    candidate_groups: Tensor,
    scale: Tensor,
    row_lse: Tensor,
    grad_row_lse: Tensor,
    grad_positive: Tensor,
    column_lse: Tensor,
    grad_column_lse: Tensor,
    left_out: Tensor | None = None,
    *,
    block_size: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the outputs of `contrastive_forward`, weighted by what arrives for each and added up.

    The logits are computed again. `row_lse` may come from more candidates than these, `column_lse` from more queries.

    Args:
        queries, candidates, positive_index, query_groups, candidate_groups, scale: as for `contrastive_forward`.
        row_lse, grad_row_lse, grad_positive: [Q], of scale's dtype.
        column_lse, grad_column_lse: [D], or both [0] for no column term.
        left_out: as for `contrastive_forward`.

    Returns:
        Gradients of queries [Q, H], candidates [D, H] and scale [], all of scale's dtype.
    """
    pairs = (queries, candidates, positive_index, query_groups, candidate_groups, scale)
    logits = _TiledLogits(*pairs, left_out, block_size)
    gradients = _Gradients(logits, scale)
    # Where nothing took part, -inf - -inf would be NaN; -inf - inf is as good as masked.
    row_lse, column_lse = (lse.masked_fill(lse == float("-inf"), float("inf")) for lse in (row_lse, column_lse))
    for rows_q in logits.tiling.row_slices():
        for columns_d in logits.tiling.column_slices():
            tile_qd = logits.compute(rows_q, columns_d)
            by_column_qd = None
            if len(column_lse):
                by_column_qd = (tile_qd - column_lse[columns_d]).exp_().mul_(grad_column_lse[columns_d])
            weights_qd = tile_qd.sub_(row_lse[rows_q, None]).exp_().mul_(grad_row_lse[rows_q, None])
            if by_column_qd is not None:
                weights_qd += by_column_qd
            logits.add_to_positives_(weights_qd, rows_q, columns_d, grad_positive[rows_q])
            gradients.add(rows_q, columns_d, weights_qd, None)
    return gradients.result()


def contrastive_forward_backward(
    queries: Tensor,
    candidates: Tensor,
    positive_index: Tensor,
    query_groups: Tensor,
    candidate_groups: Tensor,
    scale: Tensor,
    left_out: Tensor | None = None,
    *,
    block_size: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`contrastive_forward` without columns, and the gradients of sum(row_lse - positive_logit), in one pass.

    A tile that holds all candidates of its queries knows their log-sum-exp as soon as it is computed, so the product
    that gave the logits need not be repeated: three products in all, where forward and backward apart take four. With
    so many candidates that no such tile is small enough, it takes the four.

    Args:
        queries, candidates, query_groups, candidate_groups, scale, left_out: as for `contrastive_forward`.
        positive_index: [Q] int64; every query must have its positive among the candidates.

    Returns:
        row_lse [Q], positive_logit [Q]; gradients of queries [Q, H], candidates [D, H] and scale [].
    """
    pairs = (queries, candidates, positive_index, query_groups, candidate_groups, scale)
    logits = _TiledLogits(*pairs, left_out, block_size)
    if not logits.tiling.has_whole_rows:
        row_lse, positive, none = contrastive_forward(*pairs, False, left_out, block_size=block_size)
        ones_Q = torch.ones_like(row_lse)
        return (
            row_lse,
            positive,
            *contrastive_backward(*pairs, row_lse, ones_Q, -ones_Q, none, none, left_out, block_size=block_size),
        )
    gradients = _Gradients(logits, scale)
    row_lse_Q, positive_Q = scale.new_empty(len(queries)), scale.new_empty(len(queries))
    all_columns = slice(0, len(candidates))
    for rows_q in logits.tiling.row_slices():
        tile_qd = logits.compute(rows_q, all_columns)
        positive_Q[rows_q] = logits.positives_of_tile
        peak_q = tile_qd.amax(1)
        weights_qd = tile_qd.sub_(peak_q[:, None]).exp_()
        sum_q = weights_qd.sum(1)
        row_lse_Q[rows_q] = peak_q + sum_q.log()
        # Within the tile the positive's weight, p - 1, loses no digits, and is exactly 0 where nothing else counts.
        logits.add_to_positives_(weights_qd, rows_q, all_columns, -sum_q)
        gradients.add(rows_q, all_columns, weights_qd, sum_q.reciprocal())
    return row_lse_Q, positive_Q, *gradients.result()


class _TiledLogits:
    """Computes any tile of the scaled, masked logits into one buffer that the next tile overwrites."""

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
        self.tiling: Tiling = choose_tiling(len(queries), len(candidates), queries.device, block_size)
        self.positives_of_tile = scale.new_zeros(0)
        self._scale = scale
        self._positive_index = positive_index
        self._left_out = left_out
        self._query_groups, self._candidate_groups = comparable_groups(query_groups, candidate_groups)
        self._empty = candidate_groups == EMPTY_SLOT
        size = min(self.tiling.rows, len(queries)) * min(self.tiling.columns, len(candidates))
        self._logits_buffer = torch.empty(size, dtype=scale.dtype, device=queries.device)
        self._mask_buffer = torch.empty(size, dtype=torch.bool, device=queries.device)

    def scaled_queries(self, rows: slice) -> Tensor:
        return self.queries[rows] * self._scale

    def compute(self, rows: slice, columns: slice) -> Tensor:
        """The tile [q, d]; `positives_of_tile` [q] is then the positive's logit, 0 where it is not in the tile."""
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        size = shape[0] * shape[1]
        tile_qd = self._logits_buffer[:size].view(shape)
        torch.mm(self.scaled_queries(rows), self.candidates[columns].T, out=tile_qd)
        place_q1, inside_q1 = self._positives_in(rows, columns)
        own_q1 = tile_qd.gather(1, place_q1)
        mask_logits_(
            tile_qd,
            self._query_groups[rows],
            self._candidate_groups[columns],
            self._empty[columns],
            self._mask_buffer[:size].view(shape),
        )
        if self._left_out is not None:
            tile_qd.masked_fill_(unpack_pairs(self._left_out[rows], columns), float("-inf"))
        tile_qd.scatter_(1, place_q1, torch.where(inside_q1, own_q1, tile_qd.gather(1, place_q1)))
        self.positives_of_tile = torch.where(inside_q1, own_q1, 0.0).squeeze(1)
        return tile_qd

    def add_to_positives_(self, weights_qd: Tensor, rows: slice, columns: slice, amount_q: Tensor) -> None:
        """Add to the weight of each positive that stands in the tile."""
        place_q1, inside_q1 = self._positives_in(rows, columns)
        weights_qd.scatter_add_(1, place_q1, torch.where(inside_q1, amount_q[:, None], 0.0))

    def _positives_in(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        """Column of each positive within the tile, [q, 1], any column where it is outside, and whether it is inside."""
        place_q1 = self._positive_index[rows, None] - columns.start
        width = columns.stop - columns.start
        return place_q1.clamp(0, width - 1), (place_q1 >= 0) & (place_q1 < width)


class _RunningLogSumExp:
    """Log-sum-exp of values that come in tiles: largest so far, and sum of exponentials relative to it."""

    def __init__(self, length: int, like: Tensor) -> None:
        self._peak = torch.full((length,), float("-inf"), dtype=like.dtype, device=like.device)
        self._sum = torch.zeros_like(self._peak)

    def add(self, where: slice, tile: Tensor, dim: int) -> None:
        """Take up a tile whose entries along the other dimension are those of `where`."""
        peak = torch.maximum(self._peak[where], tile.amax(dim))
        # -inf - -inf would be NaN: while all is masked, measure from 0.
        origin = peak.masked_fill(peak == float("-inf"), 0.0)
        sums = (tile - origin.unsqueeze(dim)).exp_().sum(dim)
        self._sum[where] = self._sum[where] * (self._peak[where] - origin).exp() + sums
        self._peak[where] = peak

    def result(self) -> Tensor:
        return self._peak + self._sum.log()


class _Gradients:
    """Sums up what each tile's weights, the gradients of its logits, contribute."""

    def __init__(self, logits: _TiledLogits, scale: Tensor) -> None:
        self._logits = logits
        self._scale = scale
        self._queries = torch.zeros_like(logits.queries)
        self._candidates = torch.zeros_like(logits.candidates)

    def add(self, rows: slice, columns: slice, weights_qd: Tensor, factor_q: Tensor | None) -> None:
        """Take up the gradients factor * weights of a tile's logits."""
        scaled_qH = self._logits.scaled_queries(rows)
        for_queries_qH = weights_qd @ self._logits.candidates[columns]
        if factor_q is not None:
            scaled_qH *= factor_q[:, None]
            for_queries_qH *= factor_q[:, None]
        self._queries[rows] += for_queries_qH.mul_(self._scale)
        self._candidates[columns].addmm_(weights_qd.T, scaled_qH)

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        # sum(weights * logits) / scale, row by row: a query's gradient holds the sum over its candidates.
        products_Q = torch.linalg.vecdot(self._queries, self._logits.queries)
        return self._queries, self._candidates, products_Q.sum() / self._scale
