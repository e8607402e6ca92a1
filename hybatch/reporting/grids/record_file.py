"""Records as files, `<name>.record.json`: all that tables and figures need of a run, in lines to read.

    name ... commit     the fields of `Run`
    results             task -> what `Results` has; of language pairs [query language][candidate language] by metric
    questions           task -> "ids_sha256" and the figures of `QuestionFigures`, null where there is none
    losses              "step", "kind", "loss": columns of the training's steps
    validations         rows {"step", "validation": {...}}

Figures have all their digits. A list of numbers has a hundred on a line.

G languages, N parallel questions of a task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybatch.atomic import atomic_file
from hybatch.errors import UserError
from hybatch.reporting.checked_json import Checked, Wrong, count, names, number, number_or_none, text
from hybatch.reporting.grids.records import MEND, QUESTION_FIGURES, QuestionFigures, Run, run_fields, sha256_or_none
from hybatch.reporting.results import Figures, LanguageResults, Results, results_from

_FORM = 1
_WIDTH = 120
_NUMBERS_A_LINE = 100
_FIELDS = (
    *("name", "start", "backbone_sha256", "sampling", "alpha", "seed", "unseen_languages", "steps", "chosen_step"),
    *("selection_loss", "versions", "commit", "config"),
)


def write_record_file(run: Run, path: Path) -> None:
    """Write a record; it replaces its forerunner whole or not at all. Equal runs give equal bytes.

    Raises:
        UserError: it cannot be written, or the metrics of its language pairs differ from pair to pair.
    """
    try:
        with atomic_file(path) as file:
            file.write(f"{_layout(_as_object(run))}\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def read_record_file(path: Path) -> Run:
    """Read a record.

    Raises:
        UserError: it cannot be read, or a value in it is missing or of the wrong kind; the message names the keys.
    """
    at = Checked(_read_json(path), str(path), MEND)
    if at.value.get("record") != _FORM:
        at.refuse("record", f"{_FORM}, the form of records that this version reads")
    results = {task: _results(one, task) for task, one in at.child("results").children(at.child("results").names())}
    questions = at.child("questions")
    if strangers := [task for task in questions.names() if task not in results]:
        questions.refuse(strangers[0], "figures of a task that has results")
    return Run(
        **run_fields(at),
        results=results,
        questions={task: _questions(questions.child(task)) for task in questions.names()},
        curve=(*_losses(at.child("losses")), *_validations(at)),
        path=path,
    )


def read_record_config(path: Path) -> tuple[Mapping[str, Any], str | None, tuple[str, ...]]:
    """(configuration, backbone's SHA-256, tasks with results) of a record, without its figures.

    Raises:
        UserError: it cannot be read, or lacks these.
    """
    at = Checked(_read_json(path), str(path), MEND)
    sha256 = at.get("backbone_sha256", sha256_or_none)
    return at.child("config").value, sha256, at.child("results").names()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {MEND}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: malformed JSON ({error}); {MEND}") from error


def _as_object(run: Run) -> dict[str, Any]:
    losses = [row for row in run.curve if "validation" not in row]
    if any({"step", "kind", "loss"} - row.keys() for row in losses):
        raise UserError(f"{run.path}: steps of its training have no kind or no loss; {MEND}")
    return {
        "record": _FORM,
        **{name: getattr(run, name) for name in _FIELDS},
        "results": {task: _results_object(one) for task, one in sorted(run.results.items())},
        "questions": {task: _questions_object(one) for task, one in sorted(run.questions.items())},
        "losses": {name: [row[name] for row in losses] for name in ("step", "kind", "loss")},
        "validations": [row for row in run.curve if "validation" in row],
    }


def _results_object(one: Results) -> dict[str, Any]:
    common = {
        "task": one.task,
        "model": one.model,
        "backend": one.ranked_by,
        "versions": one.versions,
        "languages": one.languages,
        "num_queries": one.num_queries,
        "num_candidates": one.num_candidates,
        "summary": one.summary,
        **({} if one.data_digest is None else {"data_digest": one.data_digest}),
        **({} if one.debias is None else {"debias": one.debias}),
        **({} if one.precision is None else {"precision": one.precision}),
    }
    if isinstance(one, LanguageResults):
        return {**common, "metrics": one.metrics, "subsets": one.subsets, "figures": one.figures}
    return {
        **common,
        "multilingual": _columns([one.multilingual[x] for x in one.languages]),
        "pairs": {
            name: [column[start : start + len(one.languages)] for start in range(0, len(column), len(one.languages))]
            for name, column in _columns([one.pairs[x][y] for x in one.languages for y in one.languages]).items()
        },
    }


def _columns(cells: Sequence[Figures]) -> dict[str, list[float | None]]:
    """Metric -> its figure in every cell."""
    if other := [cell for cell in cells if cell.keys() != cells[0].keys()]:
        differing = " ".join(sorted(other[0].keys() ^ cells[0].keys()))
        raise UserError(f"not all language pairs have {differing}: evaluate again, to record the run")
    return {name: [cell[name] for cell in cells] for name in cells[0]}


def _results(at: Checked, task: str) -> Results:
    """By the form of results.json, of which the record has the columns."""
    value = dict(at.value)
    if "pairs" in value:
        languages = at.get("languages", names)
        pool = _cells(at, "multilingual", [len(languages)])
        pairs = _cells(at, "pairs", [len(languages), len(languages)])
        value["multilingual"] = dict(zip(languages, pool, strict=True))
        value["pairs"] = {x: dict(zip(languages, row, strict=True)) for x, row in zip(languages, pairs, strict=True)}
    results = results_from(value, f"{at.source}, results of {task}")
    if results.task != task:
        at.refuse("task", repr(task))
    return results


def _cells(at: Checked, key: str, shape: Sequence[int]) -> Any:
    """The figures of each language, or language pair, from the columns by metric."""
    columns = at.child(key)
    found = {name: columns.get(name, _shaped(shape)) for name in columns.names()}
    if len(shape) == 1:
        return [{name: column[row] for name, column in found.items()} for row in range(shape[0])]
    return [
        [{name: table[row][column] for name, table in found.items()} for column in range(shape[1])]
        for row in range(shape[0])
    ]


def _shaped(shape: Sequence[int]) -> Any:
    """A check for nested lists of numbers or nulls."""

    def check(value: Any) -> Any:
        wanted = "a list of " + " lists of ".join(map(str, shape)) + " finite numbers or nulls"
        if not isinstance(value, list) or len(value) != shape[0]:
            raise Wrong(wanted)
        try:
            return [_shaped(shape[1:])(one) if shape[1:] else number_or_none(one) for one in value]
        except Wrong as error:
            raise Wrong(wanted) from error

    return check


def _questions_object(one: QuestionFigures) -> dict[str, Any]:
    return {"ids_sha256": one.ids_sha256, **{name: _shortest(getattr(one, name)) for name in QUESTION_FIGURES}}


def _shortest(values_N: np.ndarray) -> list[float | None]:
    """float32 as the float64 of its fewest digits: rounded to float32 it is the same again."""
    shortest = [None if np.isnan(value) else float(str(value)) for value in values_N]
    again = np.array([np.nan if value is None else value for value in shortest], dtype=np.float64).astype(np.float32)
    return [
        value if value is None or same else float(exact)
        for value, same, exact in zip(shortest, again == values_N, values_N, strict=True)
    ]


def _questions(at: Checked) -> QuestionFigures:
    columns = {name: at.get(name, _figures) for name in QUESTION_FIGURES}
    if len({len(column) for column in columns.values()}) > 1 or not len(columns["monolingual"]):
        at.refuse("monolingual", f"as many figures as {' and '.join(QUESTION_FIGURES[1:])} have")
    sha256 = at.get("ids_sha256", sha256_or_none)
    if sha256 is None:
        at.refuse("ids_sha256", "64 hexadecimal digits")
    return QuestionFigures(ids_sha256=sha256, **columns)


def _figures(value: Any) -> np.ndarray:
    """float32 [N], NaN for null."""
    listed = _column(number_or_none)(value)
    array = np.array([np.nan if one is None else one for one in listed], dtype=np.float64)
    with np.errstate(over="ignore"):
        array_N = array.astype(np.float32)
    if np.isinf(array_N).any():
        raise Wrong("figures that float32 can hold")
    return array_N


def _column(check: Any) -> Any:
    def checked(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Wrong("a list")
        try:
            return [check(one) for one in value]
        except Wrong as error:
            raise Wrong(f"a list, each {error}") from error

    return checked


def _losses(at: Checked) -> list[dict[str, Any]]:
    columns = [at.get(name, _column(check)) for name, check in (("step", count), ("kind", text), ("loss", _loss))]
    if len({len(column) for column in columns}) > 1:
        at.refuse("step", "as many steps as kinds and losses")
    return [{"step": step, "kind": kind, "loss": loss} for step, kind, loss in zip(*columns, strict=True)]


def _loss(value: Any) -> float:
    """A number; a run that went on after a loss that was none has NaN there."""
    return value if isinstance(value, float) else number(value)


def _validations(at: Checked) -> list[dict[str, Any]]:
    rows = []
    for place, one in enumerate(at.get("validations", _column(_anything))):
        row = Checked(one, at.source, MEND, ("validations", str(place)))
        rows.append({"step": row.get("step", count), "validation": row.child("validation").value})
    return rows


def _anything(value: Any) -> Any:
    return value


def _layout(value: Any, indent: int = 0) -> str:
    """JSON: values without others in them, and what is short, on one line; else one item a line, a hundred numbers."""
    flat = json.dumps(value, ensure_ascii=False)
    if not value or not isinstance(value, Mapping | list | tuple):
        return flat
    inside = value.values() if isinstance(value, Mapping) else value
    is_plain = not any(isinstance(one, Mapping | list | tuple) for one in inside)
    if len(flat) + indent <= _WIDTH or (is_plain and len(value) <= _NUMBERS_A_LINE):
        return flat
    if isinstance(value, Mapping):
        items = [f"{json.dumps(key, ensure_ascii=False)}: {_layout(one, indent + 1)}" for key, one in value.items()]
    elif is_plain:
        starts = range(0, len(value), _NUMBERS_A_LINE)
        items = [json.dumps(value[start : start + _NUMBERS_A_LINE], ensure_ascii=False)[1:-1] for start in starts]
    else:
        items = [_layout(one, indent + 1) for one in value]
    opened, closed = "{}" if isinstance(value, Mapping) else "[]"
    lines = ",\n".join(" " * (indent + 1) + item for item in items)
    return f"{opened}\n{lines}\n{' ' * indent}{closed}"
