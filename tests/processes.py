"""Run a function in several real processes that form one gloo process group."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

# What every worker would import anew, some seconds each. Nothing of the package, which a worker has fresh.
_LIBRARIES = ["torch.distributed.fsdp", "transformers", "accelerate", "deepspeed", "datasets", "pytest", "hypothesis"]


def _worker(function: Callable[..., Any], folder: str, args: tuple[Any, ...], environment: dict[str, str]) -> None:
    os.environ.clear()  # the one of the process that workers are forked from, which is older
    os.environ.update(environment)
    torch.set_num_threads(1)
    rank, world_size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/rendezvous",
            rank=rank,
            world_size=world_size,
            timeout=datetime.timedelta(seconds=120),
        )
        torch.save(function(*args), f"{folder}/result-{rank}.pt")
        # Destroying a gloo group holds Python's lock while gloo's threads may still wait for it: leave it free first.
        dist.barrier()
        time.sleep(0.1)
        dist.destroy_process_group()
    except BaseException:
        Path(folder, f"error-{rank}.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise


def run_processes(function: Callable[..., Any], world_size: int, *args: Any) -> list[Any]:
    """Call `function(*args)` in `world_size` processes of one gloo group and return each rank's result.

    `function` and `args` must pickle, so `function` stands at the top level of its module. Each process computes
    with one thread. They are forked from a server that has imported libraries and done nothing else.

    Raises:
        RuntimeError: a process failed; the message holds the tracebacks of all that did.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LIBRARIES)
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(
                target=_worker,
                args=(
                    *(function, folder, args),
                    {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank)},
                ),
            )
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        errors = [Path(folder, f"error-{rank}.txt") for rank in range(world_size)]
        if any(process.exitcode for process in processes):
            raise RuntimeError("\n".join(e.read_text(encoding="utf-8") for e in errors if e.exists()) or "died")
        return [torch.load(f"{folder}/result-{rank}.pt", weights_only=False) for rank in range(world_size)]
