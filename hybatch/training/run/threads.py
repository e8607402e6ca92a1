"""Whether the CPU threads of a run are more than its container lets run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def about_threads(device: torch.device) -> str | None:
    """A line for the user where threads will wait for each other.

    torch counts the machine's processors, whatever share of their time a container has (`docker run --cpus`, a limit of
    Kubernetes); with more threads than that every step takes many times as long.

    Args:
        device: of the encoder; on a GPU the threads have little to do.

    Returns:
        the line, or None where there is no such limit or it is kept.
    """
    limit = processors_allowed()
    if device.type != "cpu" or limit is None:
        return None
    threads, processes = torch.get_num_threads(), int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    if threads * processes <= math.ceil(limit):
        return None
    return (
        f"{threads} CPU threads{f' in each of {processes} processes' if processes > 1 else ''}, but the container's "
        f"limit is {limit:g} processors: threads will wait for each other; set training.threads to "
        f"{max(1, int(limit) // processes)}"
    )


def processors_allowed(*, cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> float | None:
    """Processors' worth of time that the control groups of this process give it (cgroup v2 or v1); None: all.

    Args:
        cgroups: where the groups are mounted.
        membership: the file that says which this process is in.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    limits = [limit for line in lines for folder in _groups(line, cgroups) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def _groups(line: str, cgroups: Path) -> Iterator[Path]:
    """The folders of a group and of those around it; within a container some of them cannot be seen."""
    _, controllers, path = [*line.split(":", 2), "", ""][:3]
    if controllers and "cpu" not in controllers.split(","):
        return
    roots = [cgroups / controllers, cgroups / "cpu"] if controllers else [cgroups, cgroups / "unified"]
    for root in roots:
        group = Path(path.lstrip("/"))
        yield from (root / part for part in (group, *group.parents))


def _limit(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
            )
        limit = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return None
    return limit if limit > 0 else None  # -1 in version 1: none
