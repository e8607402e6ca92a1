"""Whether the study's runs may stand in one table: one backbone and one budget a start, one data set a task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybatch.errors import UserError
from hybatch.evaluation.results import RESULTS
from hybatch.reporting.study.records import QUESTIONS, SETTINGS, STUDY, StudyRun


def check_comparable(runs: Sequence[StudyRun]) -> None:
    """Check every run against the first of its start, and its results against the first of their task.

    Raises:
        UserError: naming both files and what differs.
    """
    first_of_key: dict[tuple[Any, ...], StudyRun] = {}
    first_of_name: dict[str, StudyRun] = {}
    first_of_start: dict[str, StudyRun] = {}
    first_result: dict[str, StudyRun] = {}
    first_questions: dict[str, StudyRun] = {}
    for run in runs:
        key = (run.start, run.sampling, run.alpha, run.unseen_languages, run.seed)
        _refuse_twins(first_of_key.setdefault(key, run), run)
        _refuse_namesakes(first_of_name.setdefault(run.name, run), run)
        _check_start(first_of_start.setdefault(run.start, run), run)
        for task in run.results:
            _check_results(first_result.setdefault(task, run), run, task)
        for task in run.questions:
            _check_questions(first_questions.setdefault(task, run), run, task)


def _refuse_twins(first: StudyRun, other: StudyRun) -> None:
    if other is not first:
        raise UserError(
            f"{other.folder / STUDY}: the same start, sampling, alpha, unseen languages and seed {other.seed} as "
            f"{first.folder / STUDY}; leave one of them out"
        )


def _refuse_namesakes(first: StudyRun, other: StudyRun) -> None:
    if other is not first:
        raise UserError(f"{other.folder / STUDY}: 'name' {other.name!r} is also that of {first.folder / STUDY}")


def _check_start(first: StudyRun, other: StudyRun) -> None:
    mend = f"runs of start {first.start!r} stand in one table only with the same; leave one out, or rename its start"
    for field in ("backbone_sha256", "steps"):
        _refuse(field, getattr(first, field), getattr(other, field), first.folder / STUDY, other.folder / STUDY, mend)


def _check_results(first: StudyRun, other: StudyRun, task: str) -> None:
    mend = f"results of {task} compare only over the same data; evaluate one of them again"
    path, other_path = (run.folder / task / RESULTS for run in (first, other))
    for field in ("languages", "num_queries", "num_candidates", "metrics"):
        _refuse(field, first.results[task].get(field), other.results[task].get(field), path, other_path, mend)


def _check_questions(first: StudyRun, other: StudyRun, task: str) -> None:
    mine, others = first.questions[task], other.questions[task]
    path, other_path = (run.folder / task / QUESTIONS for run in (first, other))
    mend = f"questions of {task} are paired; write one of the records again"
    if not np.array_equal(mine.ids, others.ids):
        raise UserError(f"{other_path}: other 'ids' than in {path}; {mend}")
    for name in (*SETTINGS, "rank_distance"):
        if not np.array_equal(np.isnan(getattr(mine, name)), np.isnan(getattr(others, name))):
            raise UserError(f"{other_path}: other questions have a {name!r} figure than in {path}; {mend}")


def _refuse(field: str, mine: Any, others: Any, path: Path, other_path: Path, mend: str) -> None:
    if mine != others:
        raise UserError(f"{other_path}: {field!r} is {others}, but {mine} in {path}; {mend}")
