"""An optimizer's step with gradients clipped by their norm over all parameters, which are whole or shards."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def clipped_step(
    module: nn.Module, optimizer: torch.optim.Optimizer, *, learning_rate: float, max_norm: float | None
) -> float:
    """Do what `Strategy.apply_gradients` states with the gradients of a module's parameters."""
    parameters = [parameter for parameter in module.parameters() if parameter.grad is not None]
    norm = whole_tensor(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    if math.isfinite(norm):
        if max_norm is not None and norm > max_norm:
            torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)


def whole_tensor(tensor: Tensor) -> Tensor:
    """The tensor itself, or all of what every process holds a shard of; then collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
