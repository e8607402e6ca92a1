"""One evaluation from the command line to its files."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hybatch.evaluation.command.checks import checked_task, named_precision, used_prefixes
from hybatch.evaluation.command.options import evaluate_parser, scoring_options, source_of
from hybatch.evaluation.encoding.cut_texts import cut_warnings
from hybatch.evaluation.removal import removal_warnings
from hybatch.evaluation.results import write_results
from hybatch.evaluation.settings.per_query import QueryTables
from hybatch.evaluation.source import Source
from hybatch.evaluation.table import bias_table, results_table, table_console
from hybatch.evaluation.task import Task
from hybatch.processes import launched_group, main_first, rank, world_size


@dataclass(frozen=True)
class EvaluationOutcome:
    """What an evaluation gave: the object of results.json, where it was written, and whether this process wrote it."""

    results: dict[str, Any]
    output_dir: Path | None
    is_main_process: bool


def evaluate(argv: Sequence[str]) -> EvaluationOutcome:
    """Parse the arguments, score, print the table and write results.json and timings.json.

    Under a launcher with several processes all of them compute and the first one prints and writes.

    Raises:
        UserError: an option, a file or the model cannot be used; said before the encoding begins, but for a disk that
            fills up.
    """
    arguments = evaluate_parser().parse_args(argv)
    with launched_group():
        started = time.perf_counter()
        source, options = source_of(arguments), scoring_options(arguments)
        task = main_first(lambda: checked_task(arguments, source, options))
        per_query: QueryTables = {}
        results, timings = task.score(source, options, per_query)
        prefixes = used_prefixes(source, task)
        if prefixes:
            results = {**results, "prefixes": prefixes}
        if precision := named_precision(source, options):
            results = {**results, "precision": precision}
        if source.debias:
            results = {**results, "debias": source.debias}
        cut = source.cut.counts()
        timings = {
            **source.timings,
            **timings,
            **({"cut_texts": cut} if cut else {}),
            "total_seconds": time.perf_counter() - started,
            "processes": world_size(),
            "threads_per_process": torch.get_num_threads(),
            "device": str(options.device),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        outcome = EvaluationOutcome(results, arguments.output, rank() == 0)
    if outcome.is_main_process:
        if arguments.output:
            write_results(arguments.output, results, timings, per_query)
        console = table_console()
        console.print(results_table(results))
        if bias := bias_table(results):
            console.print(bias)
        for line in [*cut_warnings(cut), *_unused(source, task), *removal_warnings(source.debias)]:
            print(f"warning: {line}", file=sys.stderr)
    return outcome


def _unused(source: Source, task: Task) -> list[str]:
    """A line for every prefix that was given and stands before no text."""
    return [
        f"--{role}-prefix: task {task.name} has no text that is encoded as a {role}"
        for role in (source.prefixes if source.prompt is None else ())
        if role not in used_prefixes(source, task)
    ]
