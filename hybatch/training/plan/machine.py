"""What this machine has for processes that train on its processor: memory, and the rate of matrix products."""

from __future__ import annotations

import os
import time

import torch

_SIDE = 1024
_ROUNDS = 8


def memory_bytes() -> int:
    """Of the whole machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def product_flops(dtype: torch.dtype) -> float:
    """Operations per second of torch's product of square matrices on all of its threads: the best of a few, measured.

    Args:
        dtype: torch.float32 or torch.bfloat16.
    """
    matrix = torch.ones(_SIDE, _SIDE, dtype=dtype)
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        seconds.append(time.perf_counter() - start)
    return 2 * _SIDE**3 / min(seconds)
