"""Memory of the C library, on the CPU."""

from __future__ import annotations

import ctypes
import sys

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
