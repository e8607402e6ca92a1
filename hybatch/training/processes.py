"""What the processes of a run say to each other outside of gradients: errors, decisions, sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist

from hybatch.errors import UserError
from hybatch.losses.gather import rank, world_size

T = TypeVar("T")


def decide(function: Callable[[], T]) -> T:
    """Call `function` on the main process only and hand its (picklable) result to all.

    Raises:
        UserError: on every process, when `function` raised it on the main process.
    """
    if world_size() == 1:
        return function()
    outcome: list[object] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = function()
        except UserError as error:
            outcome[1] = str(error)
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise UserError(str(outcome[1]))
    return outcome[0]  # type: ignore[return-value]


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Element-wise sum of `values` over all processes, in place, on every process."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values
