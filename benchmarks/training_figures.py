"""Sums up trainings: tokens a second, share of the device's own matrix rate, peak memory beside the plan's.

    python benchmarks/training_figures.py --json FILE [--device cuda] --run NAME FOLDER PEAK.json PLAN.json STRATEGY ...

Writes FILE, and beside it a Markdown table. Speeds are medians of the steps after the warm-up, of which at least one
third is left out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import environment, write_figures

from hybatch.models import Encoder
from hybatch.training.config import load_run_config
from hybatch.training.run.assembly import build_sampler, open_corpora
from hybatch.training.step.batches import BatchLoader

_RUN = ("NAME", "FOLDER", "PEAK.json", "PLAN.json", "STRATEGY")
MATRIX = {"cuda": 8192, "cpu": 512}
"""Rows and columns of the product that the device's rate is taken from."""
PRECISIONS = {"bf16": torch.bfloat16, "float32": torch.float32}


def matrix_rates(device: torch.device) -> dict[str, float]:
    """TFLOP/s of the device's matrix products, by precision.

    A share of bf16's rate alone says nothing of a processor without bf16: there float32 is the faster by far.
    """
    return {name: _matrix_rate(device, dtype) for name, dtype in PRECISIONS.items()}


def _matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Of two random square matrices, the median of ten products after three."""
    size = MATRIX[device.type]
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(13):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        one @ other
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / float(np.median(seconds[3:])) / 1e12


def speeds(folder: Path) -> dict[str, float]:
    """Medians over the steps of a run."""
    config = load_run_config(["--config", str(folder / "config.yaml")])
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    rows = [line for line in lines if "loss" in line]
    rows = rows[max(config.training.warmup(), len(rows) // 3) :]
    sampler = build_sampler(config, open_corpora(config, progress=False), progress=False)
    loader = BatchLoader(sampler=sampler, tokenize=Encoder.load(folder / "final").tokenize)
    seconds = [config.sampling.batch_size / row["examples_per_second"] for row in rows]
    tokens = [loader.load(row["step"] - 1).num_tokens for row in rows]
    return {
        "steps": len(rows),
        "seconds_a_step": float(np.median(seconds)),
        "examples_per_second": float(np.median([row["examples_per_second"] for row in rows])),
        "tokens_per_second": float(np.median([n / s for n, s in zip(tokens, seconds, strict=True)])),
        "tflops": float(np.median([row["tflops"] for row in rows])),
        "padding": float(np.median([row["padding"] for row in rows])),
    }


def row(run: list[str], rate: float) -> dict[str, Any]:
    """Figures of one run; what is missing says why."""
    name, folder, peak, plan, strategy = run
    try:
        planned = json.loads(Path(plan).read_text(encoding="utf-8"))["strategies"][strategy]["bytes"]["total"]
        peaks = json.loads(Path(peak).read_text(encoding="utf-8"))
        found = speeds(Path(folder))
    except (OSError, KeyError) as error:
        return {"run": name, "missing": repr(error)}
    share = found["tflops"] / rate
    return {"run": name, **found, "share_of_matrix_rate": share, "peak_bytes": peaks, "planned_bytes": planned}


def markdown(result: dict[str, Any]) -> str:
    about = ", ".join(f"{key} {value}" for key, value in result["environment"].items() if value is not None)
    head = "| run | examples/s | tokens/s | TFLOP/s | share of the matrix rate | peak GB | planned GB |"
    rates = ", ".join(f"{name} {rate:.4g}" for name, rate in result["matrix_tflops"].items())
    lines = [f"{about}; matrix rate in TFLOP/s: {rates}; shares are of the best", "", head, "|" + "---|" * 7]
    for one in result["rows"]:
        if "missing" in one:
            lines.append(f"| {one['run']} | not run: {one['missing']} " + "| " * 5 + "|")
            continue
        peak = one["peak_bytes"].get("allocated", one["peak_bytes"].get("process"))
        cells = [one["run"], f"{one['examples_per_second']:.0f}", f"{one['tokens_per_second']:.0f}"]
        cells += [f"{one['tflops']:.3g}", f"{one['share_of_matrix_rate']:.1%}"]
        cells += [f"{peak / 1e9:.2f}", f"{one['planned_bytes'] / 1e9:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "The plan takes every text for as long as the longest may be."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where to write; .md goes beside it")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--run", nargs=5, action="append", default=[], metavar=_RUN)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    rates = matrix_rates(device)
    result: dict[str, Any] = {"environment": environment(device), "matrix_tflops": rates, "rows": []}
    for run in arguments.run:
        result["rows"].append(row(run, max(rates.values())))
        write_figures(arguments.json, result, finished=len(result["rows"]) == len(arguments.run))
    text = markdown(result)
    arguments.json.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
