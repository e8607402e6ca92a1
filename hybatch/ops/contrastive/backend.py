"""The contrastive ops of each backend behind one face."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hybatch.ops.contrastive import torch_backend


@dataclass(frozen=True)
class ContrastiveOps:
    """The three ops of one backend; signatures and meaning as in `torch_backend`."""

    forward: Callable[..., tuple[Tensor, ...]]
    backward: Callable[..., tuple[Tensor, ...]]
    forward_backward: Callable[..., tuple[Tensor, ...]]


def contrastive_ops(backend: str, block_size: int | None) -> ContrastiveOps:
    """The ops of a backend that `choose_backend` returned; only the torch backend looks at `block_size`.

    Of the cuda backend's two sets of kernels, a call on a device of compute capability 9.0 takes the tensor cores' for
    bfloat16 and float16 embeddings whose width is a multiple of 8, and else the one for every device;
    HYBATCH_CUDA_KERNELS=hopper or =generic, read at each call, asks for one.
    """
    if backend == "torch":
        return ContrastiveOps(
            functools.partial(torch_backend.contrastive_forward, block_size=block_size),
            functools.partial(torch_backend.contrastive_backward, block_size=block_size),
            functools.partial(torch_backend.contrastive_forward_backward, block_size=block_size),
        )
    return ContrastiveOps(
        torch.ops.hybatch.contrastive_forward,
        torch.ops.hybatch.contrastive_backward,
        torch.ops.hybatch.contrastive_forward_backward,
    )
