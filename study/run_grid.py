"""Run a study on this machine, one run after the other: train, evaluate, record each line of a grid.

    python study/run_grid.py study/grids/study.txt --recipe study/recipes/recipe.yaml \\
        --runs runs/study --results results/study --tasks xquad-r mlqa-r tatoeba

From the root of a checkout. Stopped or killed, the same command goes on where it was; a run whose record stands and
whose configuration and backbone are the same is left alone. Any number of these may run side by side: each takes the
next run that none of the others has.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # Run as a file, this folder comes first on the path; the checkout makes `study` and `slurm` importable.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import TASKS
from hybatch.evaluation.encoding.precision import AUTO, PRECISIONS
from study.children import Children, Interrupted
from study.claim import claim
from study.grid import read_grid
from study.one_run import PlannedRun, RunFailed, duration, finish_run, plan_run, remaining

_PAUSE_SECONDS = 2.0


class Progress:
    """Counts what is done and guesses how long the rest takes, from the runs that were done in whole here."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._whole: list[float] = []

    def say(self, line: str) -> None:
        print(line, flush=True)

    def begin(self, name: str, what: str) -> None:
        self.say(f"[{self._done + 1}/{self._total}] {name}: {what}")

    def end(self, name: str, what: str, seconds: float | None = None) -> None:
        """Count a run; `seconds` where it was done in whole."""
        self._done += 1
        if seconds is not None:
            self._whole.append(seconds)
        left = self._total - self._done
        guess = ""
        if left and self._whole:
            guess = f", about {duration(left * sum(self._whole) / len(self._whole))}"
        rest = f"; {left} left{guess}" if left else ""
        self.say(f"[{self._done}/{self._total}] {name}: {what}{rest}")


def run_grid(runs: Sequence[PlannedRun], locks: Path, children: Children) -> dict[str, str]:
    """Do what is left of all runs; return those that failed, name -> why.

    Args:
        locks: folder of the files by which several runners share the grid.

    Raises:
        Interrupted: a signal came.
    """
    progress = Progress(len(runs))
    failures: dict[str, str] = {}
    pending = list(runs)
    is_waiting = False
    while pending:
        for run in pending:
            with claim(locks / run.name) as lock:
                if lock is None:
                    continue
                failure = _take(run, progress, children, lock)
            if failure:
                failures[run.name] = failure
            pending.remove(run)
            break
        else:
            if not is_waiting:
                progress.say(f"waiting for other runners' {', '.join(run.name for run in pending)}")
            is_waiting = True
            children.pause(_PAUSE_SECONDS)
    return failures


def _take(run: PlannedRun, progress: Progress, children: Children, lock: int) -> str | None:
    """Do what is left of one run; return why it failed, if it did."""
    children.check()
    started = time.monotonic()
    try:
        left = remaining(run)
        if not left.reasons:
            progress.end(run.name, "complete")
            return None
        progress.begin(run.name, str(left))
        summary = finish_run(run, left, children, progress.say, lock=lock)
    except (UserError, RunFailed, OSError) as error:
        progress.end(run.name, f"FAILED: {error}")
        return str(error)
    progress.end(run.name, summary, time.monotonic() - started if left.training else None)
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run a grid.

    Returns:
        0: every run is recorded; 1: some failed and are named at the end; 2: bad input; 128 + n: stopped by signal n.
    """
    arguments = _parser().parse_args(argv)
    try:
        with Children() as children:
            grid = [run for run in read_grid(arguments.grid) if re.search(arguments.only, run.name)]
            if not grid:
                raise UserError(f"--only {arguments.only}: no run of {arguments.grid} has such a name")
            places = (arguments.recipe, arguments.runs, arguments.results, arguments.tasks)
            runs = [plan_run(run, *places, arguments.precision, arguments.keep_embeddings) for run in grid]
            if arguments.dry_run:
                for run in runs:
                    print(f"{run.name}: {remaining(run)}")
                return 0
            failures = run_grid(runs, arguments.runs / ".locks", children)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as interrupted:
        print(f"{interrupted}; the same command goes on", file=sys.stderr)
        return interrupted.exit_code
    for name, reason in failures.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train, evaluate and record every run of a grid on this machine.")
    parser.add_argument("grid", type=Path, help="such as those of study/grids")
    parser.add_argument(
        "--recipe",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="what the lines are laid over; of several files each is laid over those before",
    )
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="weights and evaluations, <name>/")
    parser.add_argument("--results", type=Path, required=True, metavar="DIR", help="records, <name>.record.json")
    parser.add_argument("--tasks", nargs="+", required=True, choices=list(TASKS), metavar="TASK", help="of evaluate")
    parser.add_argument(
        "--precision", choices=[*PRECISIONS, AUTO], default="float32", help="of the encoder when it is evaluated"
    )
    parser.add_argument(
        "--keep-embeddings",
        action="store_true",
        help="of tasks with language settings, in DIR/<name>/embeddings/<task>, for hybatch evaluate --embeddings",
    )
    parser.add_argument("--only", type=_pattern, default="", metavar="REGEX", help="runs whose name it matches")
    parser.add_argument("--dry-run", action="store_true", help="say what is left to do, and do nothing")
    return parser


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error
    return text


if __name__ == "__main__":
    sys.exit(main())
