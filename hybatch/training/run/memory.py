"""Memory: what the C library does with it on the CPU, and what to do where there is not enough."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hybatch.errors import UserError
from hybatch.processes import rank
from hybatch.training.config import RunConfig

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next allocation instead of giving it back to the system; no-op elsewhere.

    A step frees and allocates the same large tensors over and over (the gradient of an embedding table, the logits).
    By default each is mapped afresh, and filling its pages takes longer than computing what stands in them.
    """
    if not sys.platform.startswith("linux"):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_MAX, 0)
        set_option(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def naming_memory(config: RunConfig, step: int, *, validating: bool = False) -> Iterator[None]:
    """Say what takes less memory where a step, or the validation after it, runs out of that.

    Raises:
        UserError: the device's memory, or this machine's, is full.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        options = ["training.chunk_size", "training.chunk_tokens"]
        if validating and config.validation.metric == "map":
            options = ["validation.batch_size"]
        if validating and config.validation.tasks:
            options.append("batch_size of validation.tasks")
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{'the validation after ' if validating else ''}step {step} does not fit into the memory of process "
            f"{rank()} ({reason}): give or lower {' or '.join(options)}, with which this run may go on; hybatch plan "
            "says what saves more. Checkpoints of earlier steps are intact"
        ) from error
