"""Writes docs/performance.md: the prose of performance.md.j2 around tables of the committed figures.

    python benchmarks/write_performance.py [--check]

`--check` writes nothing and fails where the page is not what the figures say. Figures are in
results/NAME-PROCESSOR.json, PROCESSOR being `processor` in their environment: every processor with a file has its
table, faster or slower.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import processor
from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
RESULTS = HERE / "results"

RANKING_COLUMNS = (("xquad-r", 384), ("xquad-r", 768), ("xquad-r", 1024), ("mlqa-r", 768))
TITLES = {"xquad-r": "XQuAD-R", "mlqa-r": "MLQA-R"}
RANKING_ROWS = {
    "matrix product, fp32": "one matrix product",
    "hybatch cpu, fp32": "**hybatch, C++**",
    "hybatch cpu, fp32, 100 best kept": "hybatch, C++, and the 100 best candidates",
    "hybatch cpu, int8 codes": "hybatch, C++, the embeddings as int8",
    "hybatch cpu, binary codes": "hybatch, C++, their signs as bits",
    "hybatch torch, fp32": "hybatch, pure PyTorch",
    "torch + counting, fp32": "torch, product + counting, each positive in each language",
    "torch + argsort per pair": "torch, product + argsort of each pair",
    "faiss flat search (one pair, scaled up)": "faiss, flat search in full *",
    "pytrec_eval (one pair, scaled up)": "pytrec_eval *",
    "ranx (one pair, scaled up)": "ranx *",
    "sentence-transformers evaluator (one pair, scaled up)": "sentence-transformers' evaluator *",
}
CONTRASTIVE_ROWS = {
    "matrix products": "the matrix products alone (3; symmetric 4)",
    "hybatch cpu": "**hybatch, C++**",
    "hybatch blas": "**hybatch, C++ between torch's products**",
    "hybatch torch (streaming)": "hybatch, PyTorch, streaming",
    "dense PyTorch": "dense PyTorch",
    "as sentence-transformers' cached loss, 256 rows at a time": "as sentence-transformers' cached loss, 256 at a time",
}
CONTRASTIVE_COLUMNS = tuple(
    (size, what) for size in (512, 1024, 4096) for what in ("forward + backward", "forward + backward, symmetric")
)
GPU_RANKING_COLUMNS = ("fp32", "tf32", "bf16", "fp16", "int8 codes", "binary codes")
GPU_RANKING_ROWS = {
    "matrix product, {}": "one matrix product",
    "hybatch cuda, {}": "**hybatch, CUDA**",
    "hybatch cuda, {} + rescore": "hybatch, CUDA, counts of fp32 (`rescore`)",
    "hybatch cuda, {}, 100 best kept": "hybatch, CUDA, and the 100 best candidates",
    "torch + counting, {}": "torch, product + counting, each positive in each language",
}
GPU_CONTRASTIVE_COLUMNS = ("forward", "forward + backward", "forward + backward, symmetric")
GPU_CONTRASTIVE_ROWS = {
    "matrix products": "the matrix products alone (1; 3; 4)",
    "hybatch cuda": "**hybatch, CUDA**",
    "hybatch torch (streaming)": "hybatch, PyTorch, streaming",
    "dense PyTorch": "dense PyTorch",
    "as sentence-transformers' cached loss, 256 rows at a time": "as sentence-transformers' cached loss, 256 at a time",
}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def seconds(value: float) -> str:
    """Three significant digits, as far as whole seconds."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def grid(
    rows: dict[str, str],
    columns: Sequence[str],
    find: Callable[[str, int], dict[str, Any] | None],
    about: dict[str, Any],
) -> str:
    """One line for each contender that was timed, one column a problem.

    Seconds; in brackets times the floor, and the share of the processor's peak where `about`, the environment, has it.
    """
    lines = []
    for name, title in rows.items():
        found = [find(name, column) for column in range(len(columns))]
        if any(found):
            lines.append([title, *("" if row is None else _cell(row, about) for row in found)])
    return table(["", *columns], lines)


def _cell(row: dict[str, Any], about: dict[str, Any]) -> str:
    share = processor.share_of_peak(row, about)
    brackets = [] if row["ratio"] is None else [f"{row['ratio']:{'.2f' if row['ratio'] < 10 else '.0f'}}x"]
    brackets += [] if share is None else [f"{share:.0%}"]
    return f"{seconds(row['p50'])} ({', '.join(brackets)})" if brackets else seconds(row["p50"])


def ranking(figures: dict[str, Any]) -> str:
    def find(name: str, column: int) -> dict[str, Any] | None:
        shape, width = RANKING_COLUMNS[column]
        return next((r for r in figures["rows"] if (r["shape"], r["width"], r["name"]) == (shape, width, name)), None)

    return grid(
        RANKING_ROWS, [f"{TITLES[shape]} x {width}" for shape, width in RANKING_COLUMNS], find, figures["environment"]
    )


def contrastive(figures: dict[str, Any]) -> str:
    def find(name: str, column: int) -> dict[str, Any] | None:
        size, what = CONTRASTIVE_COLUMNS[column]
        rows = (row for row in figures["rows"] if (row["size"], row["what"]) == (size, what))
        is_wanted = (lambda row: row["floor"] is None) if name == "matrix products" else lambda row: row["name"] == name
        return next(filter(is_wanted, rows), None)

    columns = [f"B = {size:,}{', symmetric' if 'symmetric' in what else ''}" for size, what in CONTRASTIVE_COLUMNS]
    return grid(CONTRASTIVE_ROWS, columns, find, figures["environment"])


def ranking_on_gpu(figures: dict[str, Any]) -> str:
    """Milliseconds, and in brackets times the floor: the product of the same precision, of fp32 for codes."""
    rows = {row["name"]: row for row in figures["rows"]}
    lines = []
    for name, title in GPU_RANKING_ROWS.items():
        found = [rows.get(name.format(precision)) for precision in GPU_RANKING_COLUMNS]
        lines.append([title, *("" if row is None else _milliseconds(row) for row in found)])
    return table(["", *GPU_RANKING_COLUMNS], lines)


def contrastive_on_gpu(figures: dict[str, Any]) -> str:
    """Milliseconds, and in brackets times the floor and the memory beyond inputs and gradients."""
    rows = {}
    for row in figures["rows"]:
        rows["matrix products" if row["floor"] is None else row["name"], row["what"]] = row
    lines = []
    for name, title in GPU_CONTRASTIVE_ROWS.items():
        found = [rows.get((name, what)) for what in GPU_CONTRASTIVE_COLUMNS]
        lines.append([title, *("" if row is None else _with_memory(row) for row in found)])
    return table(["", *GPU_CONTRASTIVE_COLUMNS], lines)


def _milliseconds(row: dict[str, Any], *more: str) -> str:
    brackets = [] if row["ratio"] is None else [f"{row['ratio']:{'.2f' if row['ratio'] < 10 else '.0f'}}x", *more]
    return f"{1e3 * row['p50']:.3g}" + (f" ({', '.join(brackets)})" if brackets else "")


def _with_memory(row: dict[str, Any]) -> str:
    return _milliseconds(row, f"{max(0, row['beyond_gradients']) / 1e6:,.0f} MB")


def gpu_tests(figures: dict[str, Any]) -> str:
    """How many tests of each group there were, and what became of them."""
    outcomes = ("passed", "failed", "lost", "skipped", "not run")
    lines = [[name, *(str(found.get(one, 0)) for one in outcomes)] for name, found in figures["groups"].items()]
    return table(["tests", *outcomes], lines)


def training(figures: dict[str, Any]) -> str:
    lines = []
    settings = figures["settings"]
    corpus = f"{settings['corpus']}, {settings['batch_size']}, {settings['chunk_size']}"
    rows = {(row["contender"], row["processes"]): row for row in figures["rows"]}
    for (contender, processes), row in rows.items():
        name, _, cached = contender.partition(", ")
        if name != "hybatch":
            continue
        theirs = rows["sentence-transformers" + (", cached" if cached else ""), processes]
        speeds = [f"{one['examples_per_second']['p50']:.3g}" for one in (row, theirs)]
        lines.append([corpus, str(processes), cached or "plain", *speeds, f"{row['speed_up']['p50']:.2f}x"])
    header = ["corpus, batch, chunk", "processes", "", "hybatch", "sentence-transformers", "ratio"]
    return table(header, lines)


def encoding(figures: dict[str, Any]) -> str:
    lines = []
    for one in figures["tables"]:
        peak = figures["environment"] if one["precision"] == "float32" else {}  # measured in float32
        for row in one["rows"]:
            name = row["name"].partition(", batches")[0]
            share = processor.share_of_peak({**row, "gflop": one["flops"] / 1e9}, peak)
            rate = f"{row['gflops']:.0f}" + ("" if share is None else f" ({share:.0%})")
            cells = ["" if row[key] is None else f"{row[key]:.2f}x" for key in ("ratio", "speed_up")]
            texts = f"{one['texts']} sentences, {'11 languages' if one['language'] == 'all' else one['language']}"
            speed = f"{row['tokens_per_second']:,.0f}"
            lines.append([f"{texts}, {one['precision']}", name, speed, rate, *cells])
    header = ["texts, precision", "", "tokens/s", "GFLOP/s", "of the floor's time", "over sentence-transformers"]
    return table(header, lines)


def made_with(figures: dict[str, Any]) -> str:
    about = figures["environment"]
    load = about["load"][0]
    peak = f", peak {about['peak_gflops']:.0f} GFLOP/s" if about.get("peak_gflops") else ""
    return f"commit {about['commit']}, torch {about['torch']}, load {load:.1f} at the start{peak}"


def machine(key: str, figures: dict[str, Any]) -> str:
    """What a table's caption says of where it was made."""
    if figures["environment"]["cuda"] is not None:
        return f"{figures['environment']['device']}, CUDA {figures['environment']['cuda']}"
    return f"{processor.title(key)}, {figures['environment']['threads']} cores"


def committed() -> dict[str, dict[str, Any]]:
    """The figures, by benchmark and processor's key."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        name, _, key = path.stem.rpartition("-")
        found.setdefault(name.replace("-", "_"), {})[key] = json.loads(path.read_text("utf-8"))
    return found


def page() -> str:
    """docs/performance.md as the figures have it."""
    environment = Environment(loader=FileSystemLoader(HERE), undefined=StrictUndefined, keep_trailing_newline=True)
    tables = (ranking, ranking_on_gpu, contrastive, contrastive_on_gpu, gpu_tests, encoding, training)
    tools = {one.__name__: one for one in (*tables, made_with, machine)}
    return environment.get_template("performance.md.j2").render(figures=committed(), **tools)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where the page is not what the figures say")
    check = parser.parse_args().check
    if not check:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE} is not what benchmarks/results says: run python benchmarks/write_performance.py")


if __name__ == "__main__":
    main()
