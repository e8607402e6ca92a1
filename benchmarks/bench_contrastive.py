"""Times the contrastive loss against the matrix products that it cannot do without, and against other ways to have it.

    python benchmarks/bench_contrastive.py --json FILE [--sizes 1024 4096 16384] [--width 768] [--what forward ...]
        [--dimensions 768 256 64]

Writes FILE anew after every round, and at the end a Markdown table and a plot as PNG beside it. Seconds are wall-clock.
Rates are the operations of the floor's products by those seconds, beside the peak of the processor's fused
multiply-adds, which is measured first. On a machine that others use too, look at the CPU ratios and the load. What
cannot run here is listed with the reason.
On the CPU the loss is also timed over several processes, which gather all candidates or pass them round a ring
(--processes 0 leaves that out).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from contrastive_contenders import BOTH, FORWARD, PRODUCTS, SYMMETRIC, LeftOut, contenders, make_problem
from contrastive_processes import measure_processes
from measure import (
    Contender,
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

from hybatch.ops.backend import choose_backend
from hybatch.ops.contrastive.trials import INFO_NCE

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


Rows = list[dict[str, Any]]
Found = tuple[Rows, list[LeftOut]]


@dataclass(frozen=True)
class Work:
    """What contenders are compared at."""

    size: int
    what: str
    device: torch.device
    gradients: int
    """Their bytes: they are a result, not working memory."""
    gflop: float | None
    """Operations of the floor's products; None where several processes share them."""


def measure(
    arguments: argparse.Namespace, machine: dict[str, Any], keep: Callable[[Rows, list[LeftOut]], None]
) -> Found:
    """Rows of the table, and what could not run; `keep` gets those there are after every round.

    Args:
        machine: the environment.
    """
    device = torch.device(arguments.device)
    rows: Rows = []
    left_out: dict[LeftOut, None] = {}
    for size in arguments.sizes:
        problem = make_problem(size, arguments.width, device, DTYPES[arguments.dtype])
        embeddings = 4 * (problem.queries.numel() + problem.candidates.numel())
        for what in arguments.what:
            found = list(contenders(problem, what, arguments.rounds, arguments.dimensions))
            left_out |= dict.fromkeys(one for one in found if isinstance(one, LeftOut))
            timed = [one for one in found if isinstance(one, Contender) and is_wanted(one, arguments.only)]
            if arguments.kernels:
                print(
                    *(f"{size}: {what}: {one.name}\n{kernels(one.run, device)}" for one in timed), sep="\n", flush=True
                )
            gradients = 0 if what == FORWARD else embeddings
            gflop = PRODUCTS[what] * 2 * size**2 * arguments.width / 1e9
            work = Work(size, what, device, gradients, gflop)
            so_far = partial(keep_round, keep, rows, list(left_out), work)
            rows = rows + tell(to_rows(interleaved(timed, arguments.rounds, device, so_far), work), machine)
    return rows, list(left_out)


def keep_round(
    keep: Callable[[Rows, list[LeftOut]], None],
    rows: Rows,
    left_out: list[LeftOut],
    work: Work,
    timings: list[Timing],
) -> None:
    keep(rows + to_rows(timings, work), left_out)


def is_wanted(contender: Contender, only: list[str] | None) -> bool:
    """Floors always are."""
    return only is None or contender.floor is None or any(part in contender.name for part in only)


def measure_gathering(arguments: argparse.Namespace, machine: dict[str, Any]) -> Found:
    """As `measure`: gather all against the ring, over several processes."""
    processes, works = arguments.processes, [what for what in arguments.what if what != FORWARD]
    if not processes or not works:
        return [], []
    if arguments.device != "cpu":
        return [], [LeftOut("gather all and ring over processes", "gloo connects CPU processes; run with --device cpu")]
    rows: Rows = []
    dtype = DTYPES[arguments.dtype]
    for size in arguments.sizes:
        for what in works:
            timings = measure_processes(processes, size, arguments.width, dtype, what, arguments.rounds)
            gradients = 8 * size // processes * arguments.width
            work = Work(size, f"{what}, {processes} processes", torch.device("cpu"), gradients, gflop=None)
            rows += tell(to_rows(timings, work), machine)
    return rows, []


def to_rows(timings: list[Timing], work: Work) -> Rows:
    """One row a contender."""
    rows = []
    for timing in timings:
        row = {"size": work.size, "what": work.what, "gflop": work.gflop, **timing.summary()}
        peak = row["device_peak_bytes"] if work.device.type == "cuda" else row["host_peak_bytes"]
        row["peak_bytes"] = peak
        row["beyond_gradients"] = None if peak is None else peak - work.gradients
        rows.append(row)
    return rows


def tell(rows: Rows, machine: dict[str, Any]) -> Rows:
    print(*(line(row, machine) for row in rows), sep="\n", flush=True)
    return rows


def line(row: dict[str, Any], machine: dict[str, Any]) -> str:
    ratio = "" if row["ratio"] is None else f"  {row['ratio']:.2f}x floor (cpu {row['cpu_ratio']:.2f}x)"
    return f"{row['size']}: {row['what']}: {row['name']}: {row['p50']:.4f} s{ratio}{told_rate(row, machine)}"


def markdown(result: dict[str, Any]) -> str:
    about = ", ".join(f"{key} {value}" for key, value in result["environment"].items() if value is not None)
    head = "| B | work | contender | p20 s | p50 s | p80 s | x floor | x floor, CPU time | GFLOP/s | of peak | peak MB | MB beyond gradients | rounds |"  # fmt: skip  # noqa: E501
    lines = [f"{about}, H = {result['width']}, {result['dtype']}", "", head, "|" + "---|" * 13]
    for row in result["rows"]:
        cells = [row["size"], row["what"], row["name"], *(f"{row[p]:.4f}" for p in ("p20", "p50", "p80"))]
        cells += ["" if row[key] is None else f"{row[key]:.2f}" for key in ("ratio", "cpu_ratio")]
        cells += rate_cells(row, result["environment"])
        cells += ["" if row[k] is None else f"{row[k] / 1e6:.0f}" for k in ("peak_bytes", "beyond_gradients")]
        lines.append("| " + " | ".join(str(cell) for cell in [*cells, row["rounds"]]) + " |")
    for left_out in result["left_out"]:
        lines.append(f"| | | {left_out['name']} | not run: {left_out['reason']} " + "| " * 9 + "|")
    lines += ["", "Ratios are medians of the rounds' ratios. Memory is what the first run added at its peak; the last "
              "column is without the float32 gradients of queries and candidates. On the host, small sizes use memory "
              "that earlier work has freed, which does not show. Several processes share the threads and the memory of "
              "one machine, and figures are the first one's: they show what the ring's further products and messages "
              "cost, and say nothing of GPUs."]  # fmt: skip
    return "\n".join(lines) + "\n"


def role(row: dict[str, Any]) -> str:
    """The contender's name; of every floor the same, though it says how many products it has."""
    return "floor" if row["floor"] is None else row["name"]


def draw(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    works = list(dict.fromkeys(row["what"] for row in result["rows"]))
    colour = colours(map(role, result["rows"]))
    figure, axes = plt.subplots(len(works), 2, figsize=(10, 0.6 + 3.2 * len(works)), squeeze=False)
    for pair, what in zip(axes, works, strict=True):
        for name in dict.fromkeys(row["name"] for row in result["rows"] if row["what"] == what):
            rows = [row for row in result["rows"] if (row["what"], row["name"]) == (what, name)]
            look = {"marker": "o", "color": colour[role(rows[0])]}
            pair[0].plot([row["size"] for row in rows], [row["p50"] for row in rows], label=name, **look)
            known = [row for row in rows if row["peak_bytes"] is not None]
            pair[1].plot([r["size"] for r in known], [max(0, r["peak_bytes"]) / 1e6 for r in known], **look)
        pair[0].set(xscale="log", yscale="log", xlabel="B", ylabel="seconds (median)", title=what)
        pair[1].set(xscale="log", xlabel="B", ylabel="peak MB", title=what)
        pair[1].set_yscale("symlog", linthresh=1)  # linear below 1 MB: a contender may need none
        pair[1].set_ylim(bottom=0)
        pair[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where to write; .md and .png go beside it")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1024, 4096, 16384])
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--dimensions", nargs="+", type=int, default=[], help="time their losses together, too")
    parser.add_argument("--what", nargs="+", choices=[FORWARD, BOTH, SYMMETRIC], default=[FORWARD, BOTH, SYMMETRIC])
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="of the embeddings")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", help="contenders whose names hold one of these, and the floor")
    parser.add_argument("--kernels", action="store_true", help="also tell each contender's kernels on a GPU")
    parser.add_argument("--processes", type=int, default=2, help="over which gather all and ring are compared; 0: none")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse()
    device = torch.device(arguments.device)
    machine = environment(device, peak=arguments.dtype == "fp32")
    machine["auto"] = choose_backend(device, family="contrastive", trial=INFO_NCE)
    about = {"environment": machine, "width": arguments.width, "dtype": arguments.dtype}

    def result(rows: Rows, left_out: list[LeftOut]) -> dict[str, Any]:
        return {**about, "rows": rows, "left_out": [asdict(one) for one in left_out]}

    def keep(rows: Rows, left_out: list[LeftOut]) -> None:
        write_figures(arguments.json, result(rows, left_out), finished=False)

    rows, left_out = measure(arguments, machine, keep)
    keep(rows, left_out)
    more_rows, more_left_out = measure_gathering(arguments, machine)
    write_report(arguments.json, result(rows + more_rows, left_out + more_left_out), markdown, draw)


if __name__ == "__main__":
    main()
