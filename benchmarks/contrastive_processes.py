"""The contrastive loss of several processes on one machine's CPUs: what the ring costs against gathering all.

The processes are connected by gloo, through the memory of the machine, and each computes with its share of the threads.
The figures show what the ring's further products and messages cost; on what it gains or costs between GPUs they say
nothing.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from contrastive_contenders import PRODUCTS, SYMMETRIC, TEMPERATURE, Problem, make_problem
from measure import Contender, Timing, interleaved

from hybatch.losses import ContrastiveLoss


def measure_processes(
    processes: int, size: int, width: int, dtype: torch.dtype, what: str, rounds: int
) -> list[Timing]:
    """Time one step's loss of `size` examples over `processes`; the first process's timings.

    Raises:
        RuntimeError: a process failed; what it said stands on the terminal.
    """
    threads = max(1, torch.get_num_threads() // processes)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (processes, threads, Path(folder), size, width, dtype, what, rounds)
        workers = [context.Process(target=_work, args=(rank, *arguments)) for rank in range(processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            raise RuntimeError(f"{what}, B = {size}: a process of {processes} failed")
        with torch.serialization.safe_globals([Timing]):
            timings: list[Timing] = torch.load(Path(folder, "timings.pt"), weights_only=True)
        return timings


def _work(
    rank: int,
    processes: int,
    threads: int,
    folder: Path,
    size: int,
    width: int,
    dtype: torch.dtype,
    what: str,
    rounds: int,
) -> None:
    torch.set_num_threads(threads)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=processes)
    device = torch.device("cpu")
    timings = interleaved(_contenders(make_problem(size, width, device, dtype), what), rounds, device)
    if rank == 0:
        torch.save(timings, folder / "timings.pt")
    dist.barrier()
    dist.destroy_process_group()


def _contenders(problem: Problem, what: str) -> list[Contender]:
    processes = dist.get_world_size()
    share = len(problem.queries) // processes
    own = slice(dist.get_rank() * share, (dist.get_rank() + 1) * share)
    floor = f"{PRODUCTS[what]} matrix products of each of {processes} processes"
    contenders = [Contender(floor, _together(_products(problem, own, PRODUCTS[what])))]
    for gather in ("all", "ring"):
        loss = ContrastiveLoss(
            temperature=TEMPERATURE, symmetric=what == SYMMETRIC, implementation="streaming", gather=gather
        )
        name = f"hybatch, gather {gather}, {processes} CPU processes on gloo"
        contenders.append(Contender(name, _together(_step(problem, own, loss)), floor))
    return contenders


def _together(run: Callable[[], object]) -> Callable[[], object]:
    """Start when all processes do."""

    def wait_and_run() -> object:
        dist.barrier()
        return run()

    return wait_and_run


def _products(problem: Problem, own: slice, count: int) -> Callable[[], object]:
    queries, candidates = problem.queries.detach()[own], problem.candidates.detach()
    logits = queries.new_empty(len(queries), len(candidates))

    def run() -> None:
        for _ in range(count - 2):
            torch.mm(queries, candidates.T, out=logits)
        torch.mm(logits, candidates)
        torch.mm(logits.T, queries)

    return run


def _step(problem: Problem, own: slice, loss: ContrastiveLoss) -> Callable[[], object]:
    groups = torch.arange(len(problem.queries))[own]
    rows = [embeddings.detach()[own].clone().requires_grad_() for embeddings in (problem.queries, problem.candidates)]
    return lambda: torch.autograd.grad(loss(*rows, groups_Q=groups), rows)
