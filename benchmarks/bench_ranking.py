"""Times the ranking op against one matrix product and against the usual ways to rank.

    python benchmarks/bench_ranking.py --json FILE [--shapes xquad-r mlqa-r] [--widths 384 768 1024] [--share 0.03]

Writes FILE anew after every round, and at the end a Markdown table and a bar chart as PNG beside it. Seconds are
wall-clock; packing, thresholds and checks of the extension are included. Rates are the operations of one product by
those seconds, beside the peak of the processor's fused multiply-adds, which is measured first. On a machine that others
use too, look at the CPU ratios and the load.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import (
    Timing,
    colours,
    environment,
    interleaved,
    kernels,
    rate_cells,
    told_rate,
    write_figures,
    write_report,
)
from ranking_contenders import DTYPES, SHAPES, contenders, make_problem

Rows = list[dict[str, Any]]


def measure(arguments: argparse.Namespace, machine: dict[str, Any], keep: Callable[[Rows], None]) -> Rows:
    """Rows of the table; `keep` gets those there are after every round. `machine` is the environment."""
    device = torch.device(arguments.device)
    precisions = list(DTYPES) if device.type == "cuda" else ["fp32"]
    rows: Rows = []
    for shape in arguments.shapes:
        for width in arguments.widths:
            problem = make_problem(SHAPES[shape], width, arguments.share, device)
            entrants = list(
                contenders(problem, backends=arguments.backends, precisions=precisions, slow=not arguments.fast)
            )
            if arguments.kernels:
                for one in entrants:
                    print(one.name, kernels(one.run, device), sep="\n", flush=True)
            gflop = 2 * SHAPES[shape].Q * SHAPES[shape].D * width / 1e9
            about = {"shape": shape, "width": width, "share": problem.share, "gflop": gflop}
            so_far = partial(keep_round, keep, rows, about)
            rows = rows + to_rows(about, interleaved(entrants, arguments.rounds, device, so_far))
            print(*(line(row, machine) for row in rows[-len(entrants) :]), sep="\n", flush=True)
    return rows


def to_rows(about: dict[str, Any], timings: list[Timing]) -> Rows:
    return [{**about, **timing.summary()} for timing in timings]


def keep_round(keep: Callable[[Rows], None], rows: Rows, about: dict[str, Any], timings: list[Timing]) -> None:
    keep(rows + to_rows(about, timings))


def line(row: dict[str, Any], machine: dict[str, Any]) -> str:
    ratio = "" if row["ratio"] is None else f"  {row['ratio']:.2f}x floor (cpu {row['cpu_ratio']:.2f}x)"
    return f"{row['shape']} x {row['width']}: {row['name']}: {row['p50']:.4f} s{ratio}{told_rate(row, machine)}"


def markdown(result: dict[str, Any]) -> str:
    about = ", ".join(f"{key} {value}" for key, value in result["environment"].items() if value is not None)
    head = "| shape | H | contender | p20 s | p50 s | p80 s | x floor | x floor, CPU time | GFLOP/s | of peak | host MB | device MB | rounds |"  # fmt: skip  # noqa: E501
    lines = [about, "", head, "|" + "---|" * 13]
    for row in result["rows"]:
        cells = [row["shape"], row["width"], row["name"], *(f"{row[p]:.4f}" for p in ("p20", "p50", "p80"))]
        cells += ["" if row[key] is None else f"{row[key]:.2f}" for key in ("ratio", "cpu_ratio")]
        cells += rate_cells(row, result["environment"])
        peaks = (row["host_peak_bytes"], row["device_peak_bytes"])
        cells += ["" if peak is None else f"{peak / 1e6:.0f}" for peak in peaks]
        lines.append("| " + " | ".join(str(cell) for cell in [*cells, row["rounds"]]) + " |")
    shares = sorted({f"{row['share']:.3f}" for row in result["rows"]})
    lines += ["", f"Share of the scores above their query's lowest threshold: {', '.join(shares)}. "
              "Ratios are medians of the rounds' ratios. Memory is what the run added at its peak."]  # fmt: skip
    return "\n".join(lines) + "\n"


def draw(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = sorted({(row["shape"], row["width"]) for row in result["rows"]})
    colour = colours(row["name"] for row in result["rows"])
    figure, axes = plt.subplots(len(panels), 1, figsize=(9, 0.6 + 2.6 * len(panels)), squeeze=False)
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        rows = [row for row in result["rows"] if (row["shape"], row["width"]) == panel]
        names = [row["name"] for row in rows]
        bars = axis.barh(names, [row["p50"] for row in rows], color=[colour[name] for name in names])
        axis.bar_label(bars, [f"{row['p50']:.3g} s" for row in rows], padding=3, fontsize=7)
        axis.set(xscale="log", xlabel="seconds (median)", title=f"{panel[0]}, H = {panel[1]}")
        axis.margins(x=0.15)
        axis.invert_yaxis()
        axis.tick_params(labelsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where to write; .md and .png go beside it")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["xquad-r", "mlqa-r"])
    parser.add_argument("--widths", nargs="+", type=int, default=[384, 768, 1024])
    parser.add_argument("--share", type=float, default=0.03, help="of scores above their query's lowest threshold")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--backends", nargs="+", help="of hybatch; default: torch and the device's own")
    parser.add_argument("--kernels", action="store_true", help="also tell each contender's kernels on a GPU")
    parser.add_argument("--fast", action="store_true", help="leave out the slow contenders")
    arguments = parser.parse_args(argv)
    arguments.backends = arguments.backends or ["torch", torch.device(arguments.device).type]
    return arguments


def main() -> None:
    arguments = parse()
    about = {"environment": environment(torch.device(arguments.device), peak=True)}

    def keep(rows: Rows) -> None:
        write_figures(arguments.json, {**about, "rows": rows}, finished=False)

    rows = measure(arguments, about["environment"], keep)
    write_report(arguments.json, {**about, "rows": rows}, markdown, draw)


if __name__ == "__main__":
    main()
