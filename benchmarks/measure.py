"""Timing of contenders against each other, and what a reader needs to know about the machine.

Contenders take turns, round by round, so that whatever else the machine does falls on all of them alike; the ratio
to the floor is taken within each round.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import processor
import torch

from hybatch.atomic import atomic_file
from hybatch.ops.processor import processor_facts


@dataclass
class Contender:
    """One way to do the work; `run` is timed as a whole."""

    name: str
    run: Callable[[], object]
    floor: str | None = None
    """Name of the contender that this one is compared with."""
    scale: float = 1.0
    """The whole work is this many times what `run` does; other than 1 only for those too slow to run in full."""
    rounds: int | None = None
    """Fewer rounds than the others."""


@dataclass
class Timing:
    """Seconds of one contender, already scaled to the whole work."""

    name: str
    floor: str | None
    scale: float
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    cpu_ratios: list[float] = field(default_factory=list)
    host_peak_bytes: int | None = None
    device_peak_bytes: int | None = None

    def summary(self) -> dict[str, Any]:
        quantiles = {f"p{p}": float(np.percentile(self.wall, p)) for p in (20, 50, 80)}
        ratio = float(np.median(self.ratios)) if self.ratios else None
        cpu_ratio = float(np.median(self.cpu_ratios)) if self.cpu_ratios else None
        return {**asdict(self), **quantiles, "ratio": ratio, "cpu_ratio": cpu_ratio, "rounds": len(self.wall)}


def interleaved(
    contenders: list[Contender],
    rounds: int,
    device: torch.device,
    after_round: Callable[[list[Timing]], None] = lambda timings: None,
) -> list[Timing]:
    """Time all contenders in turn; one untimed run of each comes first and shows its peak memory.

    Args:
        after_round: takes the timings so far, for those who write them down before a later round may be cut short.
    """
    timings = {c.name: Timing(c.name, c.floor, c.scale) for c in contenders}
    for contender in contenders:
        timing = timings[contender.name]
        timing.host_peak_bytes, timing.device_peak_bytes = _peak_memory(contender.run, device)
    for number in range(rounds):
        seconds: dict[str, tuple[float, float]] = {}
        for contender in contenders:
            if number < (contender.rounds or rounds):
                wall, cpu = _timed(contender.run, device)
                seconds[contender.name] = (wall * contender.scale, cpu * contender.scale)
        for name, (wall, cpu) in seconds.items():
            timing = timings[name]
            timing.wall.append(wall)
            timing.cpu.append(cpu)
            if timing.floor in seconds:
                timing.ratios.append(wall / seconds[timing.floor][0])
                timing.cpu_ratios.append(cpu / seconds[timing.floor][1])
        after_round(list(timings.values()))
    return list(timings.values())


def kernels(run: Callable[[], object], device: torch.device, most: int = 12) -> str:
    """Where the time of one run goes on a GPU: its kernels and copies, those that take longest first."""
    run()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        wall, _ = _timed(run, device)
    found = [one for one in profiler.key_averages() if one.device_type != torch.autograd.DeviceType.CPU]
    found.sort(key=lambda one: one.self_device_time_total, reverse=True)
    busy = sum(one.self_device_time_total for one in found)
    lines = [f"  {1e6 * wall:.0f} us, {busy:.0f} us of them in {sum(one.count for one in found)} kernels and copies"]
    lines += [f"  {one.self_device_time_total:9.0f} us {one.count:6d} x {one.key[:110]}" for one in found[:most]]
    return "\n".join(lines)


def write_figures(path: Path, result: dict[str, Any], *, finished: bool) -> None:
    """Replace the JSON file whole, also halfway through a benchmark: one that is stopped leaves what it has measured.

    Args:
        finished: whether all is measured; stands beside the figures.
    """
    with atomic_file(path) as file:
        file.write(json.dumps({**result, "finished": finished}, indent=1) + "\n")


def write_report(
    path: Path,
    result: dict[str, Any],
    markdown: Callable[[dict[str, Any]], str],
    draw: Callable[[dict[str, Any], Path], None] | None = None,
) -> None:
    """Write the figures of a finished benchmark, and a table (.md) and perhaps a chart (.png) beside the JSON file."""
    write_figures(path, result, finished=True)
    path.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    if draw is not None:
        draw(result, path.with_suffix(".png"))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    _synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    _synchronize(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def _peak_memory(run: Callable[[], object], device: torch.device) -> tuple[int | None, int | None]:
    """Bytes above what was there before, on the host (None where the kernel does not tell) and on the device."""
    before = reset_host_peak()
    allocated = 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
    run()
    _synchronize(device)
    host = None if before is None else status_bytes("VmHWM") - before
    on_device = torch.cuda.max_memory_allocated(device) - allocated if device.type == "cuda" else None
    return host, on_device


def reset_host_peak() -> int | None:
    """Start `status_bytes("VmHWM")` anew; return what the process holds now, or None where the kernel does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return status_bytes("VmRSS")


def status_bytes(key: str) -> int:
    """A size of /proc/self/status: VmRSS now, VmHWM at its highest."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")


def environment(device: torch.device, *, peak: bool = False) -> dict[str, Any]:
    """Device, versions and commit, and the key of the processor or GPU that results files are named by.

    Args:
        peak: measure what the CPU does at best (`peak_gflops`, fp32, on all threads of torch), for shares of it.
    """
    found = processor_facts()
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor.name(found),
        "processor": processor.key(found) if device.type == "cpu" else gpu_key(torch.cuda.get_device_name(device)),
        "peak_gflops": processor.peak_gflops(torch.get_num_threads()) if peak and device.type == "cpu" else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "python": platform.python_version(),
        "commit": _commit(),
        "load": os.getloadavg(),
    }


def gpu_key(name: str) -> str:
    """Of a GPU, as CUDA names it: "NVIDIA H200" is h200, "NVIDIA A100-SXM4-80GB" a100sxm480gb."""
    return "".join(character for character in name.lower().removeprefix("nvidia") if character.isalnum())


def rate_cells(row: dict[str, Any], about: dict[str, Any]) -> list[str]:
    """A row's GFLOP/s and its share of the peak in the environment, empty where that is not known.

    Args:
        row: holds `gflop`, the operations of the work, and `p50`, seconds.
    """
    if row["gflop"] is None:
        return ["", ""]
    share = processor.share_of_peak(row, about)
    return [f"{row['gflop'] / row['p50']:.0f}", "" if share is None else f"{share:.0%}"]


def told_rate(row: dict[str, Any], about: dict[str, Any]) -> str:
    """The same for the end of a line on the terminal."""
    rate, share = rate_cells(row, about)
    return rate and f"  {rate} GFLOP/s" + (share and f", {share} of peak")


def colours(names: Iterable[str]) -> dict[str, Any]:
    """One for each contender, the same in every panel of a figure."""
    import matplotlib

    palette = matplotlib.colormaps["tab20"].colors
    distinct = [*palette[::2], *palette[1::2]]
    return {name: distinct[i % len(distinct)] for i, name in enumerate(dict.fromkeys(names))}


def _commit() -> str | None:
    """None in a copy without its history, and where there is no git."""
    if shutil.which("git") is None:
        return None
    here = Path(__file__).resolve().parent
    described = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True)
    return described.stdout.strip() or None
