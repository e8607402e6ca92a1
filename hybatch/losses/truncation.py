"""Leading dimensions of embeddings, each an embedding of its own (Kusupati et al. 2022, "Matryoshka Representation
Learning", arXiv 2205.13147).

Autograd's own way through a slice and a norm fills a gradient of the full width several times over, which tells beside
the loss of a batch of a thousand; this one fills it once.

Shape suffixes: N rows, H embedding width, M leading dimensions of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_SHORTEST = 1e-12
"""Rows that are shorter are divided by this, as everywhere in torch: nothing stays nothing."""


class Truncated(NamedTuple):
    """Embeddings cut to their leading dimensions, and the way back for gradients."""

    rows_NM: Tensor
    """Of unit length, float32 (float64 for float64); at the full width the very embeddings."""
    lengths_N1: Tensor | None
    """Of the rows before they were scaled; None at the full width, where they are not."""

    def gradient(self, upstream_NM: Tensor) -> Tensor:
        """By the leading dimensions of the embeddings, given that by `rows_NM`."""
        if self.lengths_N1 is None:
            return upstream_NM
        along_N1 = torch.linalg.vecdot(upstream_NM, self.rows_NM)[:, None]
        return torch.addcmul(upstream_NM, self.rows_NM, along_N1, value=-1).div_(self.lengths_N1)


def truncate(rows_NH: Tensor, width: int) -> Truncated:
    """The leading `width` dimensions; without a graph."""
    if width == rows_NH.shape[1]:
        return Truncated(rows_NH, None)
    leading_NM = rows_NH.detach()[:, :width].to(torch.promote_types(rows_NH.dtype, torch.float32))
    lengths_N1 = torch.linalg.vector_norm(leading_NM, dim=1, keepdim=True).clamp_min(_SHORTEST)
    return Truncated(leading_NM / lengths_N1, lengths_N1)


def truncated(rows_NH: Tensor, width: int) -> Tensor:
    """The same with a graph, differentiable once: [N, width]; `rows_NH` itself where that is its width."""
    return rows_NH if width == rows_NH.shape[1] else _Truncated.apply(rows_NH, width)


class _Truncated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_NH: Tensor, width: int) -> Tensor:
        cut = truncate(rows_NH, width)
        ctx.save_for_backward(*cut)
        ctx.full, ctx.dtype = rows_NH.shape[1], rows_NH.dtype
        return cut.rows_NM

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_NM: Tensor) -> tuple[Tensor, None]:
        leading_NM = Truncated(*ctx.saved_tensors).gradient(upstream_NM)
        return torch.nn.functional.pad(leading_NM.to(ctx.dtype), (0, ctx.full - leading_NM.shape[1])), None


def joined_gradient(leading: Iterable[Tensor]) -> Tensor:
    """The sum of gradients by leading dimensions of the same embeddings, the widest first, into which all are added."""
    gradients = iter(leading)
    total_NH = next(gradients)
    for one_NM in gradients:
        total_NH[:, : one_NM.shape[1]] += one_NM
    return total_NH
