"""Kills a training and has it go on: it must end bit for bit where one ends that was left alone.

    python benchmarks/stop_and_resume.py --folder DIR --json FILE COMMAND...

COMMAND trains with checkpoints and `training.resume: auto`; `--output_dir` is added. It runs in two folders at the same
time; in one it is killed (SIGKILL) once its first checkpoint is there, and started again. Exit status 1 where losses or
final weights differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measure import write_figures

POLL_SECONDS = 0.01


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*command, "--output_dir", str(folder)])


def kill_after_a_checkpoint(process: subprocess.Popen[bytes], folder: Path) -> None:
    while not (folder / "checkpoints" / "latest").exists():
        if process.poll() is not None:
            raise SystemExit(f"the training ended, with {process.returncode}, before it had a checkpoint")
        time.sleep(POLL_SECONDS)
    process.kill()
    if process.wait() == 0:
        raise SystemExit("the training was over before it could be killed: give it more steps")


def losses(folder: Path) -> dict[int, float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "final" / "model.safetensors").read_bytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the two runs")
    parser.add_argument("--json", type=Path, required=True, help="where to write")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    alone, killed = arguments.folder / "alone", arguments.folder / "killed"
    processes = [start(arguments.command, folder) for folder in (alone, killed)]
    kill_after_a_checkpoint(processes[1], killed)
    stopped_at = max(losses(killed), default=0)
    again = start(arguments.command, killed)
    if processes[0].wait() or again.wait():
        raise SystemExit("a training failed")
    pairs = {step: (loss, losses(killed).get(step)) for step, loss in losses(alone).items()}
    different = [step for step, (loss, other) in pairs.items() if loss != other]
    found: dict[str, Any] = {
        "steps": len(pairs),
        "steps_on_disk_when_killed": stopped_at,
        "first_step_that_differs": min(different, default=None),
        "weights_are_equal": digest(alone) == digest(killed),
    }
    write_figures(arguments.json, found, finished=True)
    print(*(f"{name}: {value}" for name, value in found.items()), sep="\n")
    return int(bool(different) or not found["weights_are_equal"])


if __name__ == "__main__":
    sys.exit(main())
