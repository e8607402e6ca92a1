"""What the processes of a run say to each other outside of gradients: results, errors, sums, objects.

Without a process group, or alone in one, each function gives what one process alone has.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from hybatch.errors import UserError

T = TypeVar("T")

# A process waits here for the slowest one; a dead one is noticed by the broken connection, not by this.
PATIENCE = datetime.timedelta(hours=24)

_START = (
    "start the processes with accelerate launch or torchrun, which set all of them, or take what another start has "
    "left out of the environment (unset WORLD_SIZE RANK LOCAL_RANK)"
)


def rank() -> int:
    """This process's position in the default group; 0 without a group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes in the default group; 1 without a group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def launched_size(*, by_place: bool = False) -> int:
    """Number of processes that the launcher's environment describes; 1 without a launcher.

    Parts of it come from elsewhere too: left in a shell, or set by a cluster for a launcher that was not used. With
    these alone processes would wait for others that nobody starts, or each train for itself.

    Args:
        by_place: whether a place on the machine, LOCAL_RANK, is wanted too, and has a lone process form a group, as in
            accelerate.

    Raises:
        UserError: a variable is missing, or none of the numbers that it can be.
    """
    numbers = {name: _launched_number(name) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    size, place = numbers["WORLD_SIZE"], numbers["RANK"]
    if (size or 1) == 1 and not (by_place and numbers["LOCAL_RANK"] is not None):
        return 1
    wanted = [name for name in (*numbers, "MASTER_ADDR", "MASTER_PORT") if by_place or name != "LOCAL_RANK"]
    missing = [name for name in wanted if not os.environ.get(name, "").strip()]
    given = ", ".join(f"{name} is {os.environ[name]}" for name in wanted if name not in missing)
    if missing:
        raise UserError(f"{given}, but {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set: {_START}")
    if size is None or place is None or place >= size:
        raise UserError(f"{given}, which is no process of so many: {_START}")
    return size


def _launched_number(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if text in ("", "-1"):  # as launchers write none
        return None
    if not text.isdecimal() or (name == "WORLD_SIZE" and int(text) == 0):
        raise UserError(f"the environment variable {name} is {text!r}, where launchers set a number: {_START}")
    return int(text)


@contextmanager
def launched_group() -> Iterator[None]:
    """Form the process group that the launcher's environment (WORLD_SIZE, RANK, MASTER_ADDR ...) describes.

    Without a launcher, or inside a group that exists already, nothing happens.

    Raises:
        UserError: the environment has a part of what a launcher sets.
    """
    if dist.is_initialized() or launched_size() == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    else:
        backend = "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    yield
    leave_group()


def leave_group() -> None:
    """Take the process out of its group at the end of a run that ended well on all processes.

    Destroying a gloo group holds Python's lock while it waits for gloo's threads; one of these may itself be waiting
    for the lock, to let go of the tensors of the last collective, and then both wait for ever. So the lock is left free
    for a moment first.
    """
    if not dist.is_initialized():
        return
    dist.barrier()
    time.sleep(0.1)
    dist.destroy_process_group()


def run_on_main(function: Callable[[], T]) -> T:
    """Call `function` on the first process only and give its result, which must pickle, to all.

    Raises:
        UserError: on every process, when `function` raised it on the first one.
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


def main_first(function: Callable[[], T]) -> T:
    """Call `function` on the first process, then on the others: for work that leaves a cache behind.

    Raises:
        UserError: on every process, when `function` raised it on the first one.
    """
    if world_size() == 1:
        return function()
    result: list[T] = []
    problem = None
    if rank() == 0:
        try:
            result.append(function())
        except UserError as error:
            problem = str(error)
    fail_together(problem)
    return result[0] if rank() == 0 else function()


def fail_together(problem: str | None) -> None:
    """Raise on every process what any of them found wrong, so that none waits for one that has given up.

    Raises:
        UserError: the problem of the first process that has one.
    """
    problems = [found for found in gather_objects(problem) if found is not None]
    if problems:
        raise UserError(problems[0])


def gather_objects(local: Any) -> list[Any]:
    """One picklable object of each process, in rank order, on every process."""
    if world_size() == 1:
        return [local]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, local)
    return gathered


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Element-wise sum of `values` over all processes, in place, on every process."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values
