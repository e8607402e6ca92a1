"""What `hybatch report` is given: results.json files, evaluation folders, and run folders that hold either."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybatch.errors import UserError
from hybatch.evaluation.results import RESULTS, read_any_results
from hybatch.paths import expand_path
from hybatch.reporting.run_metrics import METRICS, read_metrics
from hybatch.reporting.study.aggregate import Study, gather_study
from hybatch.reporting.study.records import STUDY, StudyRun, read_run
from hybatch.reporting.tables import Measured


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
    study: the runs that are records of the study; their results and curves are not among the others.
    """

    measured: tuple[Measured, ...]
    by_language: tuple[Measured, ...]
    curves: tuple[LearningCurve, ...]
    study: Study | None = None


def read_inputs(arguments: Sequence[str]) -> ReportInputs:
    """Read `[LABEL=]PATH` arguments; PATH is a results.json or a folder that is searched for results and runs.

    A folder below PATH that has a study.json is one record of the study, whole.

    Without a label a result is called by the end of its model's path, and a run by its folder, with as many parents as
    tell it from the others. Where two results of one task would be called the same, their folders are added.

    Raises:
        UserError: a path is missing, holds no results and no run, or a file in it is malformed; or the study's runs
            cannot stand in one table.
    """
    results: list[tuple[str, Path, dict[str, Any]]] = []
    runs: list[tuple[str, Path]] = []
    records: dict[Path, StudyRun] = {}
    for argument in arguments:
        label, path = split_label(argument)
        result_files, metrics_files, record_folders = _search(path)
        if label and record_folders:
            raise UserError(
                f"{argument}: runs of the study are called by their sampling; leave out the label {label!r}"
            )
        records |= {folder.resolve(): read_run(folder) for folder in record_folders}
        results += [(label, file, read_any_results(file)) for file in result_files]
        runs += [(label, file) for file in metrics_files]
    measured = _measured(results)
    return ReportInputs(
        measured=tuple(one for one in measured if "pairs" in one.results),
        by_language=tuple(one for one in measured if "pairs" not in one.results),
        curves=_curves(runs),
        study=gather_study(list(records.values())) if records else None,
    )


def _measured(found: Sequence[tuple[str, Path, dict[str, Any]]]) -> tuple[Measured, ...]:
    models = short_names([result["model"] for _, _, result in found])
    labels = [label or models[result["model"]] for label, _, result in found]
    places = short_names([str(file.resolve().parent) for _, file, _ in found])
    taken = Counter(
        (label, result["task"], tuple(result["languages"])) for label, (_, _, result) in zip(labels, found, strict=True)
    )
    measured = []
    for label, (_, file, result) in zip(labels, found, strict=True):
        alone = taken[label, result["task"], tuple(result["languages"])] == 1
        measured.append(Measured(label if alone else f"{label} ({places[str(file.resolve().parent)]})", result))
    return tuple(measured)


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


def _search(path: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """The results, the metrics and the study's records at or below a path, none of them part of another."""
    if path.is_file():
        return ([], [path], []) if path.name == METRICS else ([path], [], [])
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; give a {RESULTS}, or a folder that holds one")
    records = [file.parent for file in _below(path, STUDY)]
    results, metrics = (
        [file for file in _below(path, name) if not any(record in file.parents for record in records)]
        for name in (RESULTS, METRICS)
    )
    if not results and not metrics and not records:
        raise UserError(f"{path}: holds neither a {RESULTS} of hybatch evaluate nor a {METRICS} of a training run")
    return results, metrics, records


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
