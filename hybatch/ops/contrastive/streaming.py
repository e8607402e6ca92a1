"""The contrastive ops by torch's matrix products, tile by tile; what lies between those is a backend's (see `tiles`).

The three functions are also the contract of the compiled ops of the same names, which have neither `tiles_of` nor
`block_size`. Logits are S[q, d] = scale * <query q, candidate d> over the pairs that take part (see `masking`).
Everything is float32, or float64 for embeddings in float64, whatever autocast says.

Shape suffixes: Q queries, D candidates, H embedding width; q and d those of one tile.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybatch.ops.contrastive.tiles import Gradients, RunningSums, Tiles, Upstream


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
    tiles_of: type[Tiles],
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
        tiles_of: what does the rest of the arithmetic.
        block_size: see `tiling`.

    Returns:
        row_lse [Q], -inf for a query without candidates; positive_logit [Q], the very number that is in row_lse, 0
        where positive_index is -1; column_lse [D], -inf for a candidate without queries, or [0] if not wanted.
    """
    pairs = (queries, candidates, positive_index, query_groups, candidate_groups, scale)
    tiles = tiles_of(*pairs, left_out, block_size)
    rows = RunningSums(len(queries), scale)
    columns = RunningSums(len(candidates) if want_columns else 0, scale)
    positive_Q = scale.new_zeros(len(queries))
    for rows_q in tiles.tiling.row_slices():
        for columns_d in tiles.tiling.column_slices():
            tiles.add_sums(rows_q, columns_d, rows, columns if want_columns else None, positive_Q)
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
    tiles_of: type[Tiles],
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
    tiles = tiles_of(*pairs, left_out, block_size)
    gradients = Gradients(tiles)
    # Where nothing took part, -inf - -inf would be NaN; -inf - inf is as good as masked.
    row_lse, column_lse = (lse.masked_fill(lse == float("-inf"), float("inf")) for lse in (row_lse, column_lse))
    upstream = Upstream(row_lse, grad_row_lse, grad_positive, column_lse, grad_column_lse)
    for rows_q in tiles.tiling.row_slices():
        for columns_d in tiles.tiling.column_slices():
            gradients.add(rows_q, columns_d, tiles.known_weights(rows_q, columns_d, upstream))
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
    tiles_of: type[Tiles],
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
    tiles = tiles_of(*pairs, left_out, block_size)
    if not tiles.tiling.has_whole_rows:
        row_lse, positive, none = contrastive_forward(*pairs, False, left_out, tiles_of=tiles_of, block_size=block_size)
        ones_Q = torch.ones_like(row_lse)
        terms = (row_lse, ones_Q, -ones_Q, none, none)
        gradients = contrastive_backward(*pairs, *terms, left_out, tiles_of=tiles_of, block_size=block_size)
        return row_lse, positive, *gradients
    sums = Gradients(tiles)
    rows, positive_Q = RunningSums(len(queries), scale), scale.new_zeros(len(queries))
    for rows_q in tiles.tiling.row_slices():
        sums.add(rows_q, slice(0, len(candidates)), tiles.loss_weights(rows_q, rows, positive_Q))
    return rows.result(), positive_Q, *sums.result()
