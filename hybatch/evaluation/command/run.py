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

from hybatch.evaluation.command.checks import checked_task, named_precision, output_folder, used_prefixes
from hybatch.evaluation.command.options import evaluate_parser, scoring_options, source_of
from hybatch.evaluation.encoding.cut_texts import cut_warnings
from hybatch.evaluation.encoding.precision import AUTO
from hybatch.evaluation.removal import removal_warnings
from hybatch.evaluation.results import write_results
from hybatch.evaluation.settings.per_query import QueryTables
from hybatch.evaluation.settings.task import RetrievalTask
from hybatch.evaluation.source import Source
from hybatch.evaluation.table import bias_table, results_table, vectors_table
from hybatch.evaluation.task import ScoringOptions, Task
from hybatch.evaluation.vectors.scoring import ScoredChoice, VectorChoice, score_choices, vector_choices
from hybatch.processes import launched_group, main_first, rank, world_size
from hybatch.terminal import table_console


@dataclass(frozen=True)
class Evaluation:
    """The object of one results.json, and the folder it was written to; None where nothing was."""

    results: dict[str, Any]
    folder: Path | None


@dataclass(frozen=True)
class EvaluationOutcome:
    """What an evaluation gave, and whether this process wrote it."""

    evaluations: list[Evaluation]
    """One, or one for every choice of vectors."""
    is_main_process: bool

    @property
    def results(self) -> dict[str, Any]:
        """Of the first one."""
        return self.evaluations[0].results


def evaluate(argv: Sequence[str]) -> EvaluationOutcome:
    """Parse the arguments, score, print the tables and write results.json and timings.json.

    Under a launcher with several processes all of them compute and the first one prints and writes.

    Raises:
        UserError: an option, a file or the model cannot be used; said before the encoding begins, but for a disk that
            fills up.
    """
    arguments = evaluate_parser().parse_args(argv)
    with launched_group():
        started = time.perf_counter()
        source, options = source_of(arguments), scoring_options(arguments)
        if arguments.precision == AUTO and rank() == 0:
            print(f"--precision auto comes to {options.precision}")
        choices = vector_choices(arguments.vectors, arguments.dimensions)
        task = main_first(lambda: checked_task(arguments, source, options, choices))
        measured = _measured(task, source, options, choices)
        about = _about(source, task, options)
        timings = source.timings | _timings_of_run(source, options, time.perf_counter() - started)
        evaluations = [
            Evaluation(
                one.scored.results | about,
                output_folder(arguments.output, one.choice) if arguments.output else None,
            )
            for one in measured
        ]
        outcome = EvaluationOutcome(evaluations, rank() == 0)
    if outcome.is_main_process:
        for one, evaluation in zip(measured, evaluations, strict=True):
            if evaluation.folder:
                write_results(evaluation.folder, evaluation.results, timings | one.scored.timings, one.per_query)
        _print(evaluations, bool(choices))
        for line in [*cut_warnings(source.cut.counts()), *_unused(source, task), *removal_warnings(source.debias)]:
            print(f"warning: {line}", file=sys.stderr)
    return outcome


def _measured(
    task: Task, source: Source, options: ScoringOptions, choices: Sequence[VectorChoice]
) -> Sequence[ScoredChoice]:
    if choices:
        assert isinstance(task, RetrievalTask)  # or it would have been refused
        return score_choices(task, source, options, choices)
    per_query: QueryTables = {}
    return [ScoredChoice(None, task.score(source, options, per_query), per_query)]


def _about(source: Source, task: Task, options: ScoringOptions) -> dict[str, Any]:
    """What results say beside the figures, where there is something to say."""
    said = {
        "data_digest": task.digest(),
        "prefixes": used_prefixes(source, task),
        "precision": named_precision(source, options),
        "debias": source.debias,
    }
    return {key: value for key, value in said.items() if value}


def _timings_of_run(source: Source, options: ScoringOptions, seconds: float) -> dict[str, Any]:
    cut = source.cut.counts()
    return {
        **({"cut_texts": cut} if cut else {}),
        "total_seconds": seconds,
        "processes": world_size(),
        "threads_per_process": torch.get_num_threads(),
        "device": str(options.device),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _print(evaluations: Sequence[Evaluation], of_vectors: bool) -> None:
    console = table_console()
    if of_vectors:
        console.print(vectors_table([one.results for one in evaluations]))
        return
    results = evaluations[0].results
    console.print(results_table(results))
    if bias := bias_table(results):
        console.print(bias)


def _unused(source: Source, task: Task) -> list[str]:
    """A line for every prefix that was given and stands before no text."""
    return [
        f"--{role}-prefix: task {task.name} has no text that is encoded as a {role}"
        for role in (source.prefixes if source.prompt is None else ())
        if role not in used_prefixes(source, task)
    ]
