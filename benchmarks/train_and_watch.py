"""Trains as hybatch/train.py does, and writes down the most memory that it held.

    [launcher] benchmarks/train_and_watch.py [--peak FILE] [--deterministic] [--operators FILE] [options of training]

On a GPU the peak is of the tensors, as torch's allocator counts them, and of what it reserved for them; on the CPU it
is the process's. `--deterministic` takes from torch the algorithms that repeat bit for bit where it has them.
`--operators` writes where the time goes, by torch's profiler, which takes time itself: operators by what the CPU spent
on starting them, and kernels.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch
from measure import status_bytes, write_figures

from hybatch.train import main as train


def peaks() -> dict[str, int]:
    if torch.cuda.is_available():
        return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    return {"process": status_bytes("VmHWM")}


def profiled(options: list[str], path: Path) -> int:
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        exit_code = train(options)
    averages = profiler.key_averages()
    orders = ("self_cpu_time_total", "self_device_time_total")
    path.write_text("\n".join(averages.table(sort_by=order, row_limit=40) for order in orders), encoding="utf-8")
    return exit_code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak", type=Path, help="where to write")
    parser.add_argument("--deterministic", action="store_true")
    parser.add_argument("--operators", type=Path, help="where to write the operators' times")
    own, options = parser.parse_known_args()
    if own.deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when the device is first used
        torch.use_deterministic_algorithms(True, warn_only=True)
    exit_code = train(options) if own.operators is None else profiled(options, own.operators)
    if own.peak is not None and os.environ.get("RANK", "0") == "0":
        write_figures(own.peak, peaks(), finished=exit_code == 0)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
