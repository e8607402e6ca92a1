"""One quick product that settles nearly all comparisons of scores, and by how much each of its entries can be off.

It rounds as the library likes; what it leaves open, those entries that lie within their error of what they are compared
with, is for scores that do not depend on the order of sums (`fixed_point`, or the compiled ops).

Shapes: Q queries, D candidates, H embedding width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybatch.ops.products import float32_products

_ROUNDING = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
_SMALLEST_NORMAL = 2.0**-126
"""Of float32."""
_FLOAT32_DEVICES = ("cpu", "cuda")
"""Where `float32_products` knows how to ask for them; elsewhere the product is taken in float64."""


def survey(queries_QH: Tensor, candidates_DH: Tensor) -> Tensor:
    """[Q, D] float32, or float64 on devices whose float32 may be something else: inner products.

    The rows, float32, bfloat16 or float16, lose nothing beforehand.
    """
    dtype = torch.float32 if queries_QH.device.type in _FLOAT32_DEVICES else torch.float64
    with float32_products(queries_QH.device):
        return queries_QH.to(dtype) @ candidates_DH.to(dtype).T


def rounding(width: int, dtype: torch.dtype) -> float:
    """How far a sum of `width` products, each rounded in `dtype`, in any order, lies at most from the true one.

    For rows of length 1: (1 + u)^H - 1 (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1).
    """
    return math.expm1(width * _ROUNDING[dtype])


def largest_error(queries_QH: Tensor, candidates_DH: Tensor, relative: float) -> Tensor:
    """float64 [Q]: by how much inner products of the query that err by `relative` |q| |c| can be off.

    What may be lost besides: where numbers below the smallest normal one count as 0, that much by each operand, product
    and partial sum.
    """
    norms_Q, largest = _norms(queries_QH), _norms(candidates_DH).amax()
    rounded_norms = 1 + 2.0**-20
    lost_Q = queries_QH.size(1) * _SMALLEST_NORMAL * (norms_Q + largest + 3)
    return relative * rounded_norms * norms_Q * largest + lost_Q


def _norms(rows_NH: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows_NH, dim=1, dtype=torch.float64)


def below(limit: Tensor, dtype: torch.dtype) -> Tensor:
    """A number of the type `dtype` that is smaller than the float64 `limit`, by no more than its rounding."""
    rounded = limit.to(dtype)
    return torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
