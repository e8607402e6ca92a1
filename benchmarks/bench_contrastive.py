"""Times the contrastive loss against the matrix products that it cannot do without, and against other ways to have it.

    python benchmarks/bench_contrastive.py --json FILE [--sizes 1024 4096 16384] [--width 768] [--what forward ...]

Writes FILE, and beside it a Markdown table and a plot as PNG. Seconds are wall-clock. On a machine that others use too,
look at the CPU ratios and the load. The dense loss is left out where its matrices would not fit into free memory.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from contrastive_contenders import BOTH, FORWARD, SYMMETRIC, contenders, make_problem
from measure import environment, interleaved

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    device = torch.device(arguments.device)
    rows: list[dict[str, Any]] = []
    for size in arguments.sizes:
        problem = make_problem(size, arguments.width, device, DTYPES[arguments.dtype])
        embeddings = 4 * (problem.queries.numel() + problem.candidates.numel())
        for what in arguments.what:
            for timing in interleaved(list(contenders(problem, what, arguments.rounds)), arguments.rounds, device):
                row = {"size": size, "what": what, **timing.summary()}
                peak = row["device_peak_bytes"] if device.type == "cuda" else row["host_peak_bytes"]
                # Gradients are a result, not working memory.
                row["peak_bytes"] = peak
                row["beyond_gradients"] = None if peak is None else peak - (0 if what == FORWARD else embeddings)
                print(line(row), flush=True)
                rows.append(row)
    return rows


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
    lines += ["", "Ratios are medians of the rounds' ratios. Memory is what the first run added at its peak; the last "
              "column is without the float32 gradients of queries and candidates. On the host, small sizes use memory "
              "that earlier work has freed, which does not show."]  # fmt: skip
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
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    about = {"width": arguments.width, "dtype": arguments.dtype}
    result = {"environment": environment(torch.device(arguments.device)), **about, "rows": measure(arguments)}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    arguments.json.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    draw(result, arguments.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
