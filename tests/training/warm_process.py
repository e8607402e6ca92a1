"""Training runs in real processes that start in a second: forked from a server that has the libraries loaded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from hybatch.ops.backend import candidates_for_auto

ROOT = Path(__file__).resolve().parents[2]


def _context() -> multiprocessing.context.ForkServerContext:
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a forked tokenizer warns of it otherwise
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.warm_imports"])
    return context


def _run(log: str, arguments: Sequence[str], environment: dict[str, str]) -> None:
    """In the new process: become a process of a run that nobody launched but its environment."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", buffering=1)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1)
    os.environ.update(environment)

    from hybatch.train import main

    sys.exit(main(list(arguments)))


def start_run(folder: Path, arguments: Sequence[str], *, processes: int = 1) -> list[BaseProcess]:
    """Start a run of one or several processes, as `srun python -m hybatch.train` would; each writes log-<rank>.txt.

    All runs have the same backend: bits of two that each measured on a busy machine need not be the same.
    """
    environment = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "HF_HOME": str(folder / "hf")}
    environment["HYBATCH_BACKEND"] = candidates_for_auto(torch.device("cpu"), "contrastive")[0]
    if processes > 1:
        environment |= {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    context = _context()
    started = []
    for rank in range(processes):
        own = environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {})
        process = context.Process(target=_run, args=(str(folder / f"log-{rank}.txt"), list(arguments), own))
        process.start()
        started.append(process)
    return started


def kill(processes: Sequence[BaseProcess]) -> None:
    """SIGKILL, also to stopped ones, and wait until the kernel has taken them down."""
    for process in processes:
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
    for process in processes:
        process.join()


def exit_codes(processes: Sequence[BaseProcess], timeout: float) -> list[int | None]:
    """Wait for all; a process that is still there after `timeout` seconds is killed and has no code."""
    codes: list[int | None] = []
    for process in processes:
        process.join(timeout)
        codes.append(process.exitcode)
    kill(processes)
    return codes


def log(folder: Path, rank: int = 0) -> str:
    return (folder / f"log-{rank}.txt").read_text(encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
