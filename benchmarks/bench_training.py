"""Times training on hybatch and on sentence-transformers' trainer: one model, the same batches in the same order.

    python benchmarks/bench_training.py --json FILE [--corpus embedded] [--processes 1 2] [--rounds 3] [--steps 10]
    python benchmarks/bench_training.py --json FILE --backbone DIR --learning-rate 1e-5 --corpus .../mlqa-test

The contenders are hybatch and MultipleNegativesRankingLoss, plain, and hybatch and CachedMultipleNegativesRankingLoss,
encoding the same number of texts at once. Equal: start weights, texts and their order, prompts, batch, learning rate
(constant), AdamW (fused) and its weight decay, clipping, precision, threads; dropout is off, so that all must end at
the same loss. Each contender's processes stay up and train anew, from the first weights, in every round; rounds are
interleaved. The first steps of a round are not timed. On the CPU only.

Writes FILE anew after every round, and at the end a Markdown table and a bar chart as PNG beside it. Peak memory is
what the first round of a process added to it. The loss at the end is measured by the same code for all, on batches of
another draw.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import environment, write_figures, write_report
from training_contenders import FLOORS, HELD_OUT_STEPS, Settings, build_initial, held_out_loss

from hybatch.errors import UserError
from hybatch.models import EncoderConfig, FreshBackboneConfig


class Team:
    """The processes of one contender, waiting for their next round."""

    def __init__(self, name: str, processes: list[subprocess.Popen[str]], log: Path) -> None:
        self.name = name
        self.size = len(processes)
        self.seconds: list[float] = []
        self.first: dict[str, Any] = {}
        self._processes = processes
        self._log = log

    def train(self, number: int) -> None:
        main = self._processes[0]
        assert main.stdin is not None
        assert main.stdout is not None
        print(number, file=main.stdin, flush=True)
        line = main.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} on {self.size} processes died:\n{self._log.read_text()[-3000:]}")
        answer = json.loads(line)
        self.seconds.append(answer["seconds"])
        self.first = self.first or answer


@contextmanager
def team(settings: Settings, name: str, size: int, threads: int) -> Iterator[Team]:
    """Start the processes of a contender; they end when their standard input does."""
    folder = Path(settings.folder)
    settings.write(folder / "settings.json")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / f"{name}-{size}.log"
    command = [
        sys.executable,
        str(Path(__file__).with_name("training_contenders.py")),
        str(folder / "settings.json"),
        name,
    ]
    processes = []
    with log.open("w") as errors:
        for rank in range(size):
            place = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": size,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            variables = place | {"OMP_NUM_THREADS": max(1, threads // size), "ACCELERATE_USE_CPU": "true"}
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE if rank == 0 else errors, "stderr": errors}
            processes.append(
                subprocess.Popen(
                    command, env=os.environ | {k: str(v) for k, v in variables.items()}, text=True, **pipes
                )
            )
    try:
        yield Team(name, processes, log)
    finally:
        for process in processes:
            process.stdin.close()
        for process in processes:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


Rows = list[dict[str, Any]]


def measure(settings: Settings, sizes: list[int], rounds: int, threads: int, keep: Callable[[Rows], None]) -> Rows:
    """Rows of the table; `keep` gets after every round what there is but the losses."""
    names = [name for pair in FLOORS.items() for name in pair]
    with ExitStack() as stack:
        teams = [stack.enter_context(team(settings, name, size, threads)) for size in sizes for name in names]
        for number in range(rounds):
            # The other way round in every second round, so that no contender always follows the same one.
            for one in teams if number % 2 == 0 else reversed(teams):
                one.train(number)
                print(f"round {number}: {one.size} x {one.name}: {one.seconds[-1]:.2f} s", flush=True)
            keep([speeds(settings, one, teams) for one in teams])
    return [speeds(settings, one, teams) | {"held_out_loss": loss_at_the_end(settings, one)} for one in teams]


def loss_at_the_end(settings: Settings, one: Team) -> float:
    return held_out_loss(settings, torch.load(one.first["weights"], weights_only=True))


def speeds(settings: Settings, one: Team, teams: list[Team]) -> dict[str, Any]:
    """What is reported of a contender's rounds; its speed-up is over the one it is compared with, round by round."""
    examples = settings.batch_size * (settings.steps - settings.warmup_steps)
    floors = [other for other in teams if other.name == FLOORS.get(one.name) and other.size == one.size]
    ratios = [theirs / ours for floor in floors for theirs, ours in zip(floor.seconds, one.seconds, strict=True)]
    return {
        "contender": one.name,
        "processes": one.size,
        "seconds": one.seconds,
        "examples_per_second": {f"p{p}": float(examples / np.percentile(one.seconds, 100 - p)) for p in (20, 50, 80)},
        "speed_up": {f"p{p}": float(np.percentile(ratios, p)) for p in (20, 50, 80)} if ratios else None,
        "peak_bytes": one.first["peak_bytes"],
    }


def markdown(result: dict[str, Any]) -> str:
    about = [
        ", ".join(f"{k} {v}" for k, v in result[part].items() if v is not None) for part in ("environment", "settings")
    ]
    head = "| processes | contender | examples/s p20 | p50 | p80 | speed-up p20 | p50 | p80 | peak MB | held-out loss |"
    lines = [*about, "", head, "|" + "---|" * 10]
    for one in result["rows"]:
        speeds = [f"{value:.1f}" for value in one["examples_per_second"].values()]
        ratios = ["" if one["speed_up"] is None else f"{one['speed_up'][p]:.2f}" for p in ("p20", "p50", "p80")]
        peak = "" if one["peak_bytes"] is None else f"{one['peak_bytes'] / 1e6:.0f}"
        cells = [one["processes"], one["contender"], *speeds, *ratios, peak, f"{one['held_out_loss']:.5f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", f"Held-out loss before training: {result['initial_loss']:.5f}. Speed-ups are over the other with the "
              "same number of processes, within each round. Peak memory is of the main process."]  # fmt: skip
    return "\n".join(lines) + "\n"


def draw(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = sorted({one["processes"] for one in result["rows"]})
    figure, axes = plt.subplots(len(sizes), 1, figsize=(9, 0.6 + 1.8 * len(sizes)), squeeze=False)
    for axis, size in zip(axes[:, 0], sizes, strict=True):
        rows = [one for one in result["rows"] if one["processes"] == size]
        speeds = [one["examples_per_second"]["p50"] for one in rows]
        colours = ["C0" if one["speed_up"] else "C7" for one in rows]
        bars = axis.barh([one["contender"] for one in rows], speeds, color=colours)
        labels = [
            f"{s:.0f}/s" + (f", {o['speed_up']['p50']:.2f}x" if o["speed_up"] else "")
            for s, o in zip(speeds, rows, strict=True)
        ]
        axis.bar_label(bars, labels, padding=3, fontsize=8)
        axis.set(xlabel="examples per second (median)", title=f"{size} process{'es' if size > 1 else ''}")
        axis.margins(x=0.2)
        axis.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def initial_model(arguments: argparse.Namespace) -> EncoderConfig:
    lengths = {"query_max_length": arguments.max_length, "passage_max_length": arguments.max_length}
    if arguments.backbone is not None:
        return EncoderConfig(backbone=arguments.backbone, dropout=0.0, **lengths)
    fresh = FreshBackboneConfig(
        layers=arguments.layers, width=arguments.width, vocabulary_size=arguments.vocabulary, dropout=0.0
    )
    return EncoderConfig(fresh=fresh, **lengths)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where to write; .md and .png go beside it")
    parser.add_argument(
        "--corpus", default="embedded", help="as `path` in a recipe's corpora: a folder of <lang>.jsonl"
    )
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup-steps", type=int, default=2, help="trained but not timed")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--chunk-size", type=int, default=32, help="of the cached contenders")
    parser.add_argument("--max-length", type=int, default=256, help="tokens of a text at most")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="1e-5 for pretrained weights")
    parser.add_argument("--backbone", help="a pretrained one, folder or name, in the place of a fresh one")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=16000)
    parser.add_argument("--precision", choices=["no", "bf16"], default="no")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="shared by the processes of a contender")
    arguments = parser.parse_args()
    if not 1 <= arguments.warmup_steps < arguments.steps:
        parser.error("--warmup-steps must be at least 1 and less than --steps")
    if arguments.steps < HELD_OUT_STEPS:
        parser.error(f"--steps must be at least {HELD_OUT_STEPS}: so many batches measure the loss at the end")
    if any(arguments.batch_size % size for size in arguments.processes):
        parser.error("every number of --processes must divide --batch-size")
    return arguments


def reported(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings without what is of this machine alone."""
    of_the_model: dict[str, Any] = {"layers": arguments.layers, "width": arguments.width}
    if arguments.backbone is not None:
        of_the_model = {"backbone": Path(arguments.backbone).name}
    return asdict(settings) | {"corpus": Path(arguments.corpus).name, **of_the_model, "folder": None}


def main() -> None:
    arguments = parse()
    names = ("corpus", "batch_size", "chunk_size", "steps", "warmup_steps", "max_length", "precision", "learning_rate")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(folder=folder, **{name: getattr(arguments, name) for name in names})
        try:
            build_initial(settings, initial_model(arguments))
        except UserError as error:
            raise SystemExit(f"error: {error}") from error
        about = {
            "environment": environment(torch.device("cpu")) | {"threads": arguments.threads},
            "settings": reported(settings, arguments),
            "initial_loss": held_out_loss(settings, None),
        }

        def keep(rows: Rows) -> None:
            write_figures(arguments.json, {**about, "rows": rows}, finished=False)

        rows = measure(settings, arguments.processes, arguments.rounds, arguments.threads, keep)
    write_report(arguments.json, {**about, "rows": rows}, markdown, draw)


if __name__ == "__main__":
    main()
