"""Collect the rows of every process, or what every process has for this one, with and without gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hybatch.processes import world_size

# torch 2.13 renamed both collectives and deprecates the names that 2.11 knows.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def gather(local: Tensor) -> Tensor:
    """Join `local` [b, ...] of every process into [world_size * b, ...] in rank order, without gradient.

    Every process must pass the same shape and dtype. Without a process group, or alone in it, the result is `local`.
    """
    if world_size() == 1:
        return local
    joined = local.new_empty((world_size() * local.shape[0], *local.shape[1:]))
    _all_gather(joined, local.detach().contiguous())
    return joined


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        return gather(local)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        own = gradient.new_empty((gradient.shape[0] // world_size(), *gradient.shape[1:]))
        _reduce_scatter(own, gradient.contiguous(), op=dist.ReduceOp.SUM)
        return own


def gather_with_gradient(local: Tensor) -> Tensor:
    """Join the embeddings of every process so that gradients find their way back to the process they came from.

    Args:
        local: [b, H], the same shape and dtype on every process.

    Returns:
        [world_size * b, H] in rank order; `local` itself without a process group.

    The backward pass sums, over all processes, the gradients that reach this process's rows. When process r holds
    loss L_r, the gradient that arrives at its rows is therefore that of L_0 + L_1 + ..., neither divided by the number
    of processes nor short of the terms that the other processes hold.
    """
    if world_size() == 1:
        return local
    return _GatherWithGradient.apply(local)


class _ExchangeWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, outgoing: Tensor) -> Tensor:
        return _exchange(outgoing)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _exchange(gradient)


def _exchange(outgoing: Tensor) -> Tensor:
    incoming = torch.empty_like(outgoing, memory_format=torch.contiguous_format)
    dist.all_to_all_single(incoming, outgoing.contiguous())
    return incoming


def exchange_with_gradient(outgoing: Tensor) -> Tensor:
    """Give every process its row and collect what they give this one; gradients go the same ways back.

    Args:
        outgoing: [world_size, ...], row r is for process r; the same shape and dtype on every process.

    Returns:
        [world_size, ...], row r is from process r; `outgoing` itself without a process group.
    """
    if world_size() == 1:
        return outgoing
    return _ExchangeWithGradient.apply(outgoing)
