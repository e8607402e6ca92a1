"""What `hybatch report` is given: results, run folders that hold them, and records of a grid's runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybatch.errors import UserError
from hybatch.evaluation.results import RESULTS
from hybatch.paths import expand_path
from hybatch.reporting.grids.description import DESCRIPTION, GridDescription, read_description
from hybatch.reporting.grids.groups import Grid, gather_grid
from hybatch.reporting.grids.record_file import read_record_file
from hybatch.reporting.grids.record_folder import STUDY, read_record_folder
from hybatch.reporting.grids.records import RECORD, Run
from hybatch.reporting.results import LanguageResults, PairResults, Results, read_results
from hybatch.reporting.run_metrics import METRICS, read_metrics
from hybatch.reporting.tables.measured import Measured


@dataclass(frozen=True)
class LearningCurve:
    """The rows of one training run's metrics.jsonl, in the order written."""

    label: str
    rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class ReportInputs:
    """Everything found, in the order of the arguments.

    measured: results in every language setting.
    by_language: results of tasks that have one row of figures a language.
    grid: the runs of which there are records; their results and curves are not among the others.
    """

    measured: tuple[Measured[PairResults], ...]
    by_language: tuple[Measured[LanguageResults], ...]
    curves: tuple[LearningCurve, ...]
    grid: Grid | None = None


@dataclass
class _Found:
    """Files at or below the paths, none of them part of another; `label` as given, "" without one.

    records: the file of a record, or the study.json of a record's folder.
    """

    results: list[tuple[str, Path]] = field(default_factory=list)
    metrics: list[tuple[str, Path]] = field(default_factory=list)
    records: list[Path] = field(default_factory=list)


def read_inputs(arguments: Sequence[str]) -> ReportInputs:
    """Read `[LABEL=]PATH` arguments; PATH is a file or a folder that is searched for results, runs and records.

    Files that end in .record.json and folders that have a study.json are records of a grid's runs, each whole; a
    grid.yaml beside them says what the report calls and tests.

    Without a label a result is called by the end of its model's path (with the method, where its language bias was
    taken out after training), and a run by its folder, with as many parents as tell it from the others. Where two
    results of one task would be called the same, their folders are added.

    Raises:
        UserError: a path is missing, holds no results and no run, or a file in it is malformed; or the grid's runs
            cannot stand in one table.
    """
    found = _Found()
    for argument in arguments:
        _search(argument, found)
    measured = _measured([(label, file, read_results(file)) for label, file in found.results])
    return ReportInputs(
        measured=tuple(Measured(label, one) for label, one in measured if isinstance(one, PairResults)),
        by_language=tuple(Measured(label, one) for label, one in measured if isinstance(one, LanguageResults)),
        curves=_curves(found.metrics),
        grid=read_grid_records(found.records) if found.records else None,
    )


def read_grid_records(files: Sequence[Path]) -> Grid:
    """Read records, each once, and the grid.yaml that stands beside them.

    Raises:
        UserError: see `read_inputs`, or records of two grids.
    """
    records = {file.resolve(): file for file in files}
    places = {_grid_folder(file).resolve(): _grid_folder(file) for file in records.values()}
    descriptions = [folder / DESCRIPTION for folder in places.values() if (folder / DESCRIPTION).is_file()]
    if len(descriptions) > 1:
        raise UserError(f"{descriptions[0]} and {descriptions[1]}: records of two grids; report them one at a time")
    description = read_description(descriptions[0]) if descriptions else GridDescription()
    return gather_grid([read_record(file) for file in records.values()], description)


def read_record(file: Path) -> Run:
    """Read a record by its file, or by the study.json of its folder.

    Raises:
        UserError: a file is missing, damaged or of something else; the message names it and the field.
    """
    return read_record_folder(file.parent) if file.name == STUDY else read_record_file(file)


def _grid_folder(record: Path) -> Path:
    return record.parent.parent if record.name == STUDY else record.parent


def _measured(found: Sequence[tuple[str, Path, Results]]) -> list[tuple[str, Results]]:
    models = short_names([results.model for _, _, results in found])
    labels = [label or results.marked(models[results.model]) for label, _, results in found]
    places = short_names([str(file.resolve().parent) for _, file, _ in found])
    taken = Counter((label, one.task, one.languages) for label, (_, _, one) in zip(labels, found, strict=True))
    return [
        (
            label if taken[label, one.task, one.languages] == 1 else f"{label} ({places[str(file.resolve().parent)]})",
            one,
        )
        for label, (_, file, one) in zip(labels, found, strict=True)
    ]


def _curves(found: Sequence[tuple[str, Path]]) -> tuple[LearningCurve, ...]:
    folders = short_names([str(file.resolve().parent) for _, file in found])
    return tuple(
        LearningCurve(label or folders[str(file.resolve().parent)], read_metrics(file)) for label, file in found
    )


def split_label(argument: str) -> tuple[str, Path]:
    """The label, "" without one, and the path of `[LABEL=]PATH`, expanded.

    Raises:
        UserError: the path is empty, or a variable in it is not set.
    """
    label, separator, path = argument.partition("=")
    if separator and not Path(argument).exists():
        return label, Path(expand_path(path, f"the path of the result {argument!r}"))
    return "", Path(expand_path(argument, "the path of a result"))


def _search(argument: str, found: _Found) -> None:
    label, path = split_label(argument)
    if path.is_file():
        records = [path] if path.name.endswith(RECORD) or path.name == STUDY else []
        metrics = [path] if path.name == METRICS else []
        results = [] if records or metrics else [path]
    elif path.is_dir():
        records = [*_below(path, STUDY), *_below(path, f"*{RECORD}")]
        folders = {file.parent for file in records if file.name == STUDY}
        results, metrics = (
            [file for file in _below(path, name) if folders.isdisjoint(file.parents)] for name in (RESULTS, METRICS)
        )
    else:
        raise UserError(f"{path}: no such file or folder; give a {RESULTS}, or a folder that holds one")
    if not results and not metrics and not records:
        raise UserError(f"{path}: holds neither a {RESULTS} of hybatch evaluate nor a {METRICS} of a training run")
    if label and records:
        raise UserError(f"{argument}: runs of a grid are called by their sampling; leave out the label {label!r}")
    found.results += [(label, file) for file in results]
    found.metrics += [(label, file) for file in metrics]
    found.records += records


def _below(folder: Path, name: str) -> list[Path]:
    """The files of a name, but for those in hidden folders: such a folder is about to appear, or was never finished."""
    found = sorted(folder.rglob(name))
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Each distinct path by the shortest tail, of one length for all, that tells them apart."""
    parts = {path: [part for part in Path(path).parts if part != "/"] or [path] for path in paths}
    longest = max(map(len, parts.values()), default=1)
    for depth in range(1, longest + 1):
        names = {path: "/".join(tail[-depth:]) for path, tail in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {path: path for path in parts}
