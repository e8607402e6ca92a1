"""Processes that end with the launcher that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_launcher() -> None:
    """Have the kernel kill this process when the launcher that started it is killed; Linux only.

    A launcher that is killed outright (out of memory, SIGKILL) cannot tell its workers, which would go on for hours
    and hold the devices and the output folder. Without a launcher nothing is changed: a run that was started from a
    shell outlives it, as with nohup.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    if "TORCHELASTIC_RUN_ID" not in os.environ and b"accelerate" not in _command_line(parent):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel knew
        os.kill(os.getpid(), signal.SIGKILL)


def _command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
