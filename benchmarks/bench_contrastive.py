"""Times the contrastive loss against the matrix products that it cannot do without, and against other ways to have it.

    python benchmarks/bench_contrastive.py --json FILE [--sizes 1024 4096 16384] [--width 768] [--what forward ...]

Writes FILE, and beside it a Markdown table and a plot as PNG. Seconds are wall-clock. On a machine that others use too,
look at the CPU ratios and the load. What cannot run here is listed with the reason. On the CPU the loss is also timed
over several processes, which gather all candidates or pass them round a ring (--processes 0 leaves that out).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from contrastive_contenders import BOTH, FORWARD, SYMMETRIC, LeftOut, contenders, make_problem
from contrastive_processes import measure_processes
from measure import Contender, Timing, environment, interleaved

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def measure(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    """Rows of the table, and what could not run."""
    device = torch.device(arguments.device)
    rows: list[dict[str, Any]] = []
    left_out: dict[LeftOut, None] = {}
    for size in arguments.sizes:
        problem = make_problem(size, arguments.width, device, DTYPES[arguments.dtype])
        embeddings = 4 * (problem.queries.numel() + problem.candidates.numel())
        for what in arguments.what:
            found = list(contenders(problem, what, arguments.rounds))
            left_out |= dict.fromkeys(one for one in found if isinstance(one, LeftOut))
            timed = [one for one in found if isinstance(one, Contender) and is_wanted(one, arguments.only)]
            gradients = 0 if what == FORWARD else embeddings
            rows += to_rows(interleaved(timed, arguments.rounds, device), size, what, device, gradients)
    return rows, list(left_out)


def is_wanted(contender: Contender, only: list[str] | None) -> bool:
    """Floors always are."""
    return only is None or contender.floor is None or any(part in contender.name for part in only)


def measure_gathering(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    """As `measure`: gather all against the ring, over several processes."""
    processes, works = arguments.processes, [what for what in arguments.what if what != FORWARD]
    if not processes or not works:
        return [], []
    if arguments.device != "cpu":
        return [], [LeftOut("gather all and ring over processes", "gloo connects CPU processes; run with --device cpu")]
    rows: list[dict[str, Any]] = []
    dtype = DTYPES[arguments.dtype]
    for size in arguments.sizes:
        for what in works:
            timings = measure_processes(processes, size, arguments.width, dtype, what, arguments.rounds)
            gradients = 8 * size // processes * arguments.width
            rows += to_rows(timings, size, f"{what}, {processes} processes", torch.device("cpu"), gradients)
    return rows, []


def to_rows(
    timings: list[Timing], size: int, what: str, device: torch.device, gradients: int
) -> Iterator[dict[str, Any]]:
    """One row a contender, told on the terminal, too.

    Args:
        gradients: bytes of the gradients, which are a result, not working memory.
    """
    for timing in timings:
        row = {"size": size, "what": what, **timing.summary()}
        peak = row["device_peak_bytes"] if device.type == "cuda" else row["host_peak_bytes"]
        row["peak_bytes"] = peak
        row["beyond_gradients"] = None if peak is None else peak - gradients
        print(line(row), flush=True)
        yield row


def line(row: dict[str, Any]) -> str:
    ratio = "" if row["ratio"] is None else f"  {row['ratio']:.2f}x floor (cpu {row['cpu_ratio']:.2f}x)"
    return f"{row['size']}: {row['what']}: {row['name']}: {row['p50']:.4f} s{ratio}"


def markdown(result: dict[str, Any]) -> str:
    about = ", ".join(f"{key} {value}" for key, value in result["environment"].items() if value is not None)
    head = "| B | work | contender | p20 s | p50 s | p80 s | x floor | x floor, CPU time | peak MB | MB beyond gradients | rounds |"  # fmt: skip  # noqa: E501
    lines = [f"{about}, H = {result['width']}, {result['dtype']}", "", head, "|" + "---|" * 11]
    for row in result["rows"]:
        cells = [row["size"], row["what"], row["name"], *(f"{row[p]:.4f}" for p in ("p20", "p50", "p80"))]
        cells += ["" if row[key] is None else f"{row[key]:.2f}" for key in ("ratio", "cpu_ratio")]
        cells += ["" if row[k] is None else f"{row[k] / 1e6:.0f}" for k in ("peak_bytes", "beyond_gradients")]
        lines.append("| " + " | ".join(str(cell) for cell in [*cells, row["rounds"]]) + " |")
    for left_out in result["left_out"]:
        lines.append(f"| | | {left_out['name']} | not run: {left_out['reason']} " + "| " * 7 + "|")
    lines += ["", "Ratios are medians of the rounds' ratios. Memory is what the first run added at its peak; the last "
              "column is without the float32 gradients of queries and candidates. On the host, small sizes use memory "
              "that earlier work has freed, which does not show. Several processes share the threads and the memory of "
              "one machine, and figures are the first one's: they show what the ring's further products and messages "
              "cost, and say nothing of GPUs."]  # fmt: skip
    return "\n".join(lines) + "\n"


def draw(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    works = list(dict.fromkeys(row["what"] for row in result["rows"]))
    figure, axes = plt.subplots(len(works), 2, figsize=(10, 0.6 + 3.2 * len(works)), squeeze=False)
    for pair, what in zip(axes, works, strict=True):
        for name in dict.fromkeys(row["name"] for row in result["rows"] if row["what"] == what):
            rows = [row for row in result["rows"] if (row["what"], row["name"]) == (what, name)]
            pair[0].plot([row["size"] for row in rows], [row["p50"] for row in rows], marker="o", label=name)
            known = [row for row in rows if row["peak_bytes"] is not None]
            pair[1].plot([r["size"] for r in known], [max(1, r["peak_bytes"]) / 1e6 for r in known], marker="o")
        pair[0].set(xscale="log", yscale="log", xlabel="B", ylabel="seconds (median)", title=what)
        pair[1].set(xscale="log", yscale="log", xlabel="B", ylabel="peak MB", title=what)
        pair[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where to write; .md and .png go beside it")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1024, 4096, 16384])
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--what", nargs="+", choices=[FORWARD, BOTH, SYMMETRIC], default=[FORWARD, BOTH, SYMMETRIC])
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="of the embeddings")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", help="contenders whose names hold one of these, and the floor")
    parser.add_argument("--processes", type=int, default=2, help="over which gather all and ring are compared; 0: none")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    about = {"width": arguments.width, "dtype": arguments.dtype}
    rows, left_out = (
        list(chain(*parts)) for parts in zip(measure(arguments), measure_gathering(arguments), strict=True)
    )
    result = {
        "environment": environment(torch.device(arguments.device)),
        **about,
        "rows": rows,
        "left_out": [asdict(one) for one in left_out],
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    arguments.json.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    draw(result, arguments.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
