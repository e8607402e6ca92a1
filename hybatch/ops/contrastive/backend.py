"""The contrastive ops of each backend behind one face."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hybatch.ops.contrastive import streaming
from hybatch.ops.contrastive.blas_backend import BlasTiles
from hybatch.ops.contrastive.tiles import Tiles
from hybatch.ops.contrastive.torch_backend import TorchTiles

_STREAMING: dict[str, type[Tiles]] = {"torch": TorchTiles, "blas": BlasTiles}
"""Backends whose products are torch's."""


@dataclass(frozen=True)
class ContrastiveOps:
    """The three ops of one backend; signatures and meaning as in `streaming`."""

    forward: Callable[..., tuple[Tensor, ...]]
    backward: Callable[..., tuple[Tensor, ...]]
    forward_backward: Callable[..., tuple[Tensor, ...]]


def contrastive_ops(backend: str, block_size: int | None) -> ContrastiveOps:
    """The ops of a backend that `choose_backend` returned; only those with torch's products look at `block_size`.

    Of the cuda backend's two sets of kernels, a call on a device of compute capability 9.0 takes the tensor cores' for
    bfloat16 and float16 embeddings whose width is a multiple of 8, and else the one for every device;
    HYBATCH_CUDA_KERNELS=hopper or =generic, read at each call, asks for one.
    """
    if backend in _STREAMING:
        ops = (
            streaming.contrastive_forward,
            streaming.contrastive_backward,
            streaming.contrastive_forward_backward,
        )
        tiles_of = _STREAMING[backend]
        return ContrastiveOps(*(functools.partial(op, tiles_of=tiles_of, block_size=block_size) for op in ops))
    return ContrastiveOps(
        torch.ops.hybatch.contrastive_forward,
        torch.ops.hybatch.contrastive_backward,
        torch.ops.hybatch.contrastive_forward_backward,
    )
