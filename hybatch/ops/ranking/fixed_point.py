"""Scores whose bits depend on nothing but the two embeddings.

A matrix product adds the terms of a score in an order that changes with the shape of the block, the number of threads,
the place of a row in the block and the library, in float64 as in float32; a candidate recomputed elsewhere then differs
in its last bit, and ties and self-comparisons break. Here every addition is exact, so its order cannot matter.

Each row is cut into two parts on a grid of powers of two that its largest magnitude fixes: `high` keeps the leading
b bits and `low` the next b, where 2 b + ceil(log2 H) <= 53. Then q_high . c_high is a sum of H integers below 2^(2b)
times one power of two, which float64 holds without rounding, and so is q_high . c_low + q_low . c_high. The score is
the sum of these two, rounded once. What is left out (the bits below `low`, and q_low . c_low) is at most
H 2^(2 - 2b) max|q| max|c|: for H = 768, where b = 21, less than 2^-15 of the bound within which a float32 chain of
fused multiply-adds may stray, 2 H 2^-24 |q| max|c|.

Shapes: N rows, Q queries, D candidates, P pairs, H embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_FLOAT64_BITS = 53
_ONE_AND_A_HALF = 1 << 51  # as the fraction of a float64: adding 1.5 * 2^52 * grid rounds to a multiple of grid


@dataclass(frozen=True)
class SplitRows:
    """Rows [N, H] as `high + low`, both float64; `low` is None where every row fits into `high`."""

    high: Tensor
    low: Tensor | None

    def take(self, index: Tensor) -> SplitRows:
        """The rows at `index` [P], in that order."""
        return SplitRows(self.high[index], None if self.low is None else self.low[index])


def split_rows(values_NH: Tensor) -> SplitRows:
    """Cut each row into its leading b and its next b bits, b = (53 - ceil(log2 H)) // 2.

    A row that holds a NaN or infinity comes out not finite; the others are not disturbed by it.
    """
    rows_NH = values_NH.to(torch.float64)
    if rows_NH.numel() == 0:
        return SplitRows(rows_NH, None)
    bits = _bits(rows_NH.size(1))
    grid_exponent_N1 = _grid_exponents(rows_NH, bits)
    high_NH = _round_to_grid(rows_NH, grid_exponent_N1)
    low_NH = _round_to_grid(rows_NH - high_NH, grid_exponent_N1 - bits)
    return SplitRows(high_NH, low_NH if bool(low_NH.any()) else None)


def leading_part(values_NH: Tensor) -> Tensor:
    """[N, H] float64: each row's leading b bits, the `high` of `split_rows`. Products of such rows are exact."""
    rows_NH = values_NH.to(torch.float64)
    if rows_NH.numel() == 0:
        return rows_NH
    return _round_to_grid(rows_NH, _grid_exponents(rows_NH, _bits(rows_NH.size(1))))


def truncation(width: int) -> float:
    """What a score leaves out of the true inner product, its own rounding included, at most, for rows of length 1."""
    return width * 2.0 ** (2 - 2 * _bits(width)) + 2.0**-52


def _bits(width: int) -> int:
    return (_FLOAT64_BITS - (width - 1).bit_length()) // 2


def _grid_exponents(rows_NH: Tensor, bits: int) -> Tensor:
    # The clamp keeps rows of zeros and of infinities within the exponents of float64; no finite float32 reaches it.
    exponent_N1 = (rows_NH.abs().amax(1, keepdim=True).view(torch.int64) >> 52).clamp(800, 1200)
    return exponent_N1 + 1 - bits


def _round_to_grid(values_NH: Tensor, grid_exponent_N1: Tensor) -> Tensor:
    magic_N1 = (((grid_exponent_N1 + 52) << 52) | _ONE_AND_A_HALF).view(torch.float64)
    return (values_NH + magic_N1).sub_(magic_N1)


def score_all(queries: SplitRows, candidates: SplitRows) -> Tensor:
    """[Q, D] float64: the scores of all pairs; three products where both sides have low parts."""
    small_QD = torch.zeros(len(queries.high), len(candidates.high), dtype=torch.float64, device=queries.high.device)
    if queries.low is not None:
        small_QD.addmm_(queries.low, candidates.high.T)
    if candidates.low is not None:
        small_QD.addmm_(queries.high, candidates.low.T)
    return queries.high @ candidates.high.T + small_QD


def score_pairs(queries: SplitRows, candidates: SplitRows) -> Tensor:
    """[P] float64: the scores of row p with row p, for N = P rows; the same bits as `score_all` gives."""
    scores_P = torch.linalg.vecdot(queries.high, candidates.high)
    small_P = torch.zeros_like(scores_P)
    if queries.low is not None:
        small_P += torch.linalg.vecdot(queries.low, candidates.high)
    if candidates.low is not None:
        small_P += torch.linalg.vecdot(queries.high, candidates.low)
    return scores_P.add_(small_P)
