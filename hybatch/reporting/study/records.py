"""One run of the study as committed: what it was, how it trained, what it reached on every task.

A record is a folder:

    study.json              the fields of `StudyRun`, up to `commit`
    metrics.jsonl           the rows of the training: {"step", "kind", "loss"} and {"step", "validation": {...}}
    <task>/results.json     of hybatch evaluate
    <task>/questions.npz    figures of every parallel question, for tasks with language settings: `QuestionFigures`

N parallel questions of a task.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from hybatch.errors import UserError
from hybatch.evaluation.results import RESULTS, read_any_results
from hybatch.evaluation.settings.per_query import DAMAGED
from hybatch.reporting.run_metrics import METRICS, read_metrics

STUDY = "study.json"
QUESTIONS = "questions.npz"
SCRATCH = "scratch"
SAMPLINGS = ("x-x-mono", "x-y", "hybrid", "x-x", "en-en", "sequential", "hybrid-scheduled")
SETTINGS = ("monolingual", "cross_lingual", "multilingual")


@dataclass(frozen=True, eq=False)
class QuestionFigures:
    """Figures of the parallel questions of one task: of each, the mean over its languages, or ordered pairs of them.

    languages: those of the task.
    ids: [N] str, sorted, each once.
    monolingual, cross_lingual, multilingual: float64 [N], average precision; NaN where a question has no positive.
    rank_distance: float64 [N], worst minus best rank of its positives in the pool of all languages; NaN likewise.
    """

    languages: tuple[str, ...]
    ids: np.ndarray
    monolingual: np.ndarray
    cross_lingual: np.ndarray
    multilingual: np.ndarray
    rank_distance: np.ndarray


@dataclass(frozen=True, eq=False)
class StudyRun:
    """One run.

    start: the backbone that fine-tuning started from; "scratch" for none.
    backbone_sha256: of its weights; None where they were random.
    sampling: one of SAMPLINGS.
    alpha: the share of X-X-mono batches, of sampling "hybrid" only.
    unseen_languages: those of the tasks that fine-tuning left out.
    chosen_step: of `steps`, the one whose weights were evaluated, for its `selection_loss` on the validation set.
    config: the resolved configuration of the training.
    commit: of the checkout that trained it, with "+" where it had changes; None outside of a checkout.
    folder: the record's.
    results: task -> the object of its results.json.
    questions: task -> its questions, for the tasks that have a questions.npz.
    curve: the rows of metrics.jsonl, as `hybatch.reporting.curves.learning_curves` takes them; empty without the file.
    """

    name: str
    start: str
    backbone_sha256: str | None
    sampling: str
    alpha: float | None
    seed: int
    unseen_languages: tuple[str, ...]
    steps: int
    chosen_step: int
    selection_loss: float
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    commit: str | None
    folder: Path
    results: Mapping[str, dict[str, Any]]
    questions: Mapping[str, QuestionFigures]
    curve: tuple[dict[str, Any], ...]


def read_run(folder: Path) -> StudyRun:
    """Read the record in a folder.

    Raises:
        UserError: a file is missing, damaged or of something else; the message names it, the field and the mend.
    """
    record = _read_record(folder / STUDY)
    results, questions = {}, {}
    for path in sorted(folder.glob(f"*/{RESULTS}")):
        task = path.parent.name
        results[task] = _read_results(path, task)
        if (path.parent / QUESTIONS).is_file():
            questions[task] = _read_questions(path.parent / QUESTIONS, tuple(results[task]["languages"]))
    metrics = folder / METRICS
    return StudyRun(
        **record,
        folder=folder,
        results=results,
        questions=questions,
        curve=read_metrics(metrics) if metrics.is_file() else (),
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_listing(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_text, "a text"),
    "start": (_is_text, "a text such as mini-xlmr"),
    "backbone_sha256": (
        lambda value: value is None or (isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None),
        "64 hexadecimal digits, or null without a backbone",
    ),
    "sampling": (lambda value: value in SAMPLINGS, f"one of {', '.join(SAMPLINGS)}"),
    "alpha": (
        lambda value: value is None or (_is_number(value) and 0 <= value <= 1),
        "a number within 0 to 1, or null",
    ),
    "seed": (_is_whole, "a whole number"),
    "unseen_languages": (_is_listing, "a list of language codes"),
    "steps": (_is_whole, "a whole number"),
    "chosen_step": (_is_whole, "a whole number"),
    "selection_loss": (_is_number, "a finite number"),
    "config": (lambda value: isinstance(value, dict), "an object"),
    "versions": (lambda value: isinstance(value, dict), "an object"),
    "commit": (lambda value: value is None or _is_text(value), "a text, or null"),
}


def _read_record(path: Path) -> dict[str, Any]:
    mend = "write the record again from the run"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {mend}") from error
    except ValueError as error:
        raise UserError(f"{path}: malformed JSON ({error}); {mend}") from error
    if not isinstance(record, dict):
        raise UserError(f"{path}: not an object; {mend}")
    for name, (is_valid, expected) in _FIELDS.items():
        if name not in record:
            raise UserError(f"{path}: lacks {name!r}, {expected}; {mend}")
        if not is_valid(record[name]):
            raise UserError(f"{path}: {name!r} is {record[name]!r}; expected {expected}; {mend}")
    _check_together(path, record, mend)
    record["unseen_languages"] = tuple(sorted(record["unseen_languages"]))
    return {field.name: record[field.name] for field in fields(StudyRun) if field.name in _FIELDS}


def _check_together(path: Path, record: Mapping[str, Any], mend: str) -> None:
    """Fields that do not go together."""
    if (record["sampling"] == "hybrid") != (record["alpha"] is not None):
        raise UserError(
            f"{path}: 'alpha' is {record['alpha']!r} with sampling {record['sampling']!r}; only hybrid has one; {mend}"
        )
    if record["start"] == SCRATCH and record["backbone_sha256"] is not None:
        raise UserError(f"{path}: 'backbone_sha256' is not null, but start {SCRATCH!r} has no backbone; {mend}")
    if record["chosen_step"] > record["steps"]:
        raise UserError(
            f"{path}: 'chosen_step' {record['chosen_step']} is beyond the {record['steps']} 'steps'; {mend}"
        )


def _read_results(path: Path, task: str) -> dict[str, Any]:
    results = read_any_results(path)
    mend = "evaluate again"
    if results["task"] != task:
        raise UserError(f"{path}: 'task' is {results['task']!r} in the folder {task}; {mend}")
    languages = results["languages"]
    try:
        if "pairs" in results:
            complete = all("map" in results["pairs"][x][y] for x in languages for y in languages)
            complete &= all({"map", "rank_distance"} <= results["multilingual"][x].keys() for x in languages)
            complete &= all("map" in results["summary"][setting] for setting in SETTINGS)
        else:
            complete = {"metrics", "figures"} <= results.keys() and set(languages) == results["figures"].keys()
            complete &= "mean" in results["summary"]
    except (KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise UserError(f"{path}: lacks figures of some of its languages ({' '.join(map(str, languages))}); {mend}")
    return results


def _read_questions(path: Path, languages: tuple[str, ...]) -> QuestionFigures:
    mend = "write the record again from the evaluation's per_query.npz"
    names = [field.name for field in fields(QuestionFigures)]
    try:
        with np.load(path, allow_pickle=False) as archive:
            tables = {name: archive[name] for name in archive.files}
    except DAMAGED as error:
        raise UserError(f"{path}: damaged or no .npz file ({error}); {mend}") from error
    if lacking := [name for name in names if name not in tables]:
        raise UserError(f"{path}: lacks {', '.join(lacking)}; {mend}")
    if tuple(tables["languages"].tolist()) != languages:
        raise UserError(
            f"{path}: 'languages' are {' '.join(map(str, tables['languages'].tolist()))}, those of the {RESULTS} "
            f"beside it {' '.join(languages)}; {mend}"
        )
    ids = tables["ids"]
    if ids.ndim != 1 or ids.dtype.kind != "U" or not len(ids) or not (ids[:-1] < ids[1:]).all():
        raise UserError(f"{path}: 'ids' are not sorted texts, each once; {mend}")
    figures = {}
    for name in (*SETTINGS, "rank_distance"):
        values = tables[name]
        if values.shape != ids.shape or values.dtype.kind != "f" or np.isinf(values).any():
            raise UserError(
                f"{path}: {name!r} is {values.dtype}{list(values.shape)}; expected {len(ids)} figures; {mend}"
            )
        figures[name] = values.astype(np.float64)
    return QuestionFigures(languages=languages, ids=ids, **figures)
