"""Whether a grid's runs may stand in one table: one backbone and one budget a start, one data set a task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybatch.errors import UserError
from hybatch.reporting.grids.records import QUESTION_FIGURES, Run


def check_comparable(runs: Sequence[Run]) -> None:
    """Check every run against the first of its start, and its results against the first of their task.

    Raises:
        UserError: naming both files and what differs.
    """
    first_of_key: dict[tuple[Any, ...], Run] = {}
    first_of_name: dict[str, Run] = {}
    first_of_start: dict[str, Run] = {}
    first_result: dict[str, Run] = {}
    first_questions: dict[str, Run] = {}
    for run in runs:
        key = (run.start, run.sampling, run.alpha, run.unseen_languages, run.seed)
        _refuse_twins(first_of_key.setdefault(key, run), run)
        _refuse_namesakes(first_of_name.setdefault(run.name, run), run)
        _check_start(first_of_start.setdefault(run.start, run), run)
        for task in run.results:
            _check_results(first_result.setdefault(task, run), run, task)
        for task in run.questions:
            _check_questions(first_questions.setdefault(task, run), run, task)


def _refuse_twins(first: Run, other: Run) -> None:
    if other is not first:
        raise UserError(
            f"{other.path}: the same start, sampling, alpha, unseen languages and seed {other.seed} as {first.path}; "
            "leave one of them out"
        )


def _refuse_namesakes(first: Run, other: Run) -> None:
    if other is not first:
        raise UserError(f"{other.path}: 'name' {other.name!r} is also that of {first.path}")


def _check_start(first: Run, other: Run) -> None:
    mend = f"runs of start {first.start!r} stand in one table only with the same; leave one out, or rename its start"
    for field in ("backbone_sha256", "steps"):
        _refuse(repr(field), getattr(first, field), getattr(other, field), first.path, other.path, mend)


def _check_results(first: Run, other: Run, task: str) -> None:
    mend = "results of a task compare only over the same data; evaluate one of them again"
    mine, others = first.results[task], other.results[task]
    if type(mine) is not type(others):
        raise UserError(f"{other.path}: {task} has figures of another kind than in {first.path}; {mend}")
    for field in ("languages", "num_queries", "num_candidates", "metrics"):
        values = (getattr(mine, field, None), getattr(others, field, None))
        _refuse(f"{field!r} of {task}", *values, first.path, other.path, mend)


def _check_questions(first: Run, other: Run, task: str) -> None:
    mine, others = first.questions[task], other.questions[task]
    mend = "questions are paired; write one of the records again"
    if mine.ids_sha256 != others.ids_sha256 or len(mine.monolingual) != len(others.monolingual):
        raise UserError(f"{other.path}: other questions of {task} than in {first.path}; {mend}")
    for name in QUESTION_FIGURES:
        if not np.array_equal(np.isnan(getattr(mine, name)), np.isnan(getattr(others, name))):
            raise UserError(
                f"{other.path}: other questions of {task} have a {name!r} figure than in {first.path}; {mend}"
            )


def _refuse(what: str, mine: Any, others: Any, path: Path, other_path: Path, mend: str) -> None:
    if mine != others:
        raise UserError(f"{other_path}: {what} is {_listed(others)}, but {_listed(mine)} in {path}; {mend}")


def _listed(value: Any) -> Any:
    return " ".join(value) if isinstance(value, tuple) else value
