"""Results with the figures of every query: reading them, and checking that they can be compared query by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybatch.errors import UserError
from hybatch.evaluation.results import RESULTS
from hybatch.evaluation.settings.bias_metrics import BIAS_METRICS, MULTILINGUAL
from hybatch.evaluation.settings.language_bias import own_language_first
from hybatch.evaluation.settings.metrics import METRICS
from hybatch.evaluation.settings.per_query import PER_QUERY, read_query_tables
from hybatch.reporting.inputs import short_names, split_label
from hybatch.reporting.results import Figures, PairResults, Results, read_results

POOL = "all"
NO_PAIR = ""
PAIR_POOL = "own+English"
BIAS_METRICS_BEFORE = ("rank_distance", "own_language_first")
"""Those that follow from any per_query.npz, however old."""


def higher_is_better(metric: str) -> bool | None:
    """Which end of a metric is better; None where neither is."""
    return BIAS_METRICS[metric].higher_is_better if metric in BIAS_METRICS else True


@dataclass(frozen=True)
class QueryResults:
    """One results.json with its per_query.npz, and what the tables call it."""

    label: str
    folder: Path
    results: Results
    tables: Mapping[str, np.ndarray]

    @property
    def languages(self) -> list[str]:
        """Of queries and candidates, in the order of the tables' columns."""
        return list(self.results.languages)

    @property
    def has_pairs(self) -> bool:
        """Whether the task has a setting for every pair of languages, rather than one row of figures a language."""
        return isinstance(self.results, PairResults)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What can be compared, the task's main metric first."""
        if isinstance(self.results, PairResults):
            return (*METRICS, *self.bias_metrics)
        return tuple(
            metric
            for metric in self.results.metrics
            if all(f"{metric}/{language}" in self.tables for language in self.languages)
        )

    @property
    def bias_metrics(self) -> tuple[str, ...]:
        """Those that some query has a figure of, the oldest first; results from before a metric was lack it.

        None where the task has no pool of several languages.
        """
        if not self.has_pairs:
            return ()
        names = (*BIAS_METRICS_BEFORE, *(name for name in BIAS_METRICS if name not in BIAS_METRICS_BEFORE))
        return tuple(name for name in names if self._has(name))

    def _has(self, bias_metric: str) -> bool:
        try:
            values = self.values(bias_metric)
        except KeyError:
            return False
        return not all(np.isnan(values_Q).all() for values_Q in values.values())

    @property
    def subsets(self) -> Mapping[str, Sequence[str]]:
        """Groups of languages that the task reports means of beside that of all."""
        return {} if isinstance(self.results, PairResults) else self.results.subsets

    def values(self, metric: str) -> dict[tuple[str, str], np.ndarray]:
        """(query language, candidate language) -> float64 [Q], NaN where the query is left out.

        The second is "all" for the pool, `PAIR_POOL` for that of the query's language and English, "" where the task
        has one row of figures a language.

        Raises:
            KeyError: the tables lack the metric.
        """
        if not self.has_pairs:
            return {(language, NO_PAIR): self.tables[f"{metric}/{language}"] for language in self.languages}
        settings = {}
        for own, language in enumerate(self.languages):
            if metric == "own_language_first":
                settings[language, POOL] = own_language_first(self.tables[f"pool_rank/{language}"], own)
            elif metric in BIAS_METRICS:
                pool = POOL if BIAS_METRICS[metric].pool == MULTILINGUAL else PAIR_POOL
                settings[language, pool] = self.tables[f"{metric}/{language}"]
            else:
                for column, other in enumerate((*self.languages, POOL)):
                    settings[language, other] = self.tables[f"{metric}/{language}"][:, column]
        return settings


def chosen_metric(results: Sequence[QueryResults], asked: str | None) -> str:
    """The metric to compare by: the one asked for, or the task's main one.

    Raises:
        UserError: not all of the results have it.
    """
    known = [metric for metric in results[0].metrics if all(metric in one.metrics for one in results)]
    if asked is None:
        return known[0]
    if asked not in known:
        raise UserError(f"--metric {asked}: task {results[0].results.task} can be compared by {', '.join(known)}")
    return asked


def read_query_results(arguments: Sequence[str], task: str | None = None) -> list[QueryResults]:
    """Read `[LABEL=]FOLDER` arguments; without a label, a result is called by its folder.

    Args:
        task: which results to take from a folder that holds several tasks'.

    Raises:
        UserError: a folder holds no such results or several, or they cannot be compared with those of the first.
    """
    named = [split_label(argument) for argument in arguments]
    folders = [_folder(path, task) for _, path in named]
    short = short_names([str(folder.resolve()) for folder in folders])
    found = [
        _read(label or short[str(folder.resolve())], folder) for (label, _), folder in zip(named, folders, strict=True)
    ]
    for number, one in enumerate(found):
        if one.label in [other.label for other in found[:number]]:
            raise UserError(f"{one.folder}: two results are called {one.label!r}; name one with LABEL={one.folder}")
        if number:
            _check_comparable(found[0], one)
    return found


def _folder(path: Path, task: str | None) -> Path:
    if path.is_file():
        path = path.parent
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; give the --output of hybatch evaluate")
    files = [path / RESULTS] if (path / RESULTS).is_file() else sorted(path.rglob(RESULTS))
    if task:
        files = [file for file in files if read_results(file).task == task]
    if not files:
        raise UserError(f"{path}: holds no {RESULTS}" + (f" of task {task}" if task else ""))
    if len(files) > 1:
        listed = ", ".join(str(file.parent) for file in files)
        raise UserError(f"{path}: holds the results {listed}; give one of these, or --task")
    return files[0].parent


def _read(label: str, folder: Path) -> QueryResults:
    results = read_results(folder / RESULTS)
    if results.task.startswith("mteb/"):
        raise UserError(f"{folder}: results of {results.task}; mteb keeps no figures of single queries to compare")
    one = QueryResults(label, folder, results, read_query_tables(folder / PER_QUERY))
    # A table of another evaluation would go unnoticed otherwise: figures of each file are right by themselves.
    try:
        same = one.tables["languages"].tolist() == one.languages and all(
            _agrees(values, _figures(results, pair)[one.metrics[0]])
            for pair, values in one.values(one.metrics[0]).items()
        )
    except (KeyError, IndexError, TypeError, ValueError):
        same = False
    if not same:
        raise UserError(f"{folder / PER_QUERY}: does not belong to the {RESULTS} beside it; evaluate again")
    return one


def _figures(results: Results, pair: tuple[str, str]) -> Figures:
    query_language, other = pair
    if not isinstance(results, PairResults):
        return results.figures[query_language]
    return results.multilingual[query_language] if other == POOL else results.pairs[query_language][other]


def _agrees(values: np.ndarray, expected: float | None) -> bool:
    counted = values[~np.isnan(values)]
    if expected is None or not len(counted):
        return expected is None and not len(counted)
    return bool(abs(counted.mean() - expected) < 1e-9)


def _check_comparable(first: QueryResults, other: QueryResults) -> None:
    for key in ("task", "languages", "num_queries", "num_candidates", "data_digest"):
        mine, others = (getattr(one.results, key) for one in (first, other))
        if mine != others and not (key == "data_digest" and None in (mine, others)):
            raise UserError(
                f"{other.folder}: {key} {_listed(others)}, but {first.folder} has {_listed(mine)}; only "
                "results of one task, in the same languages, over the same data, can be compared"
            )
    for language in first.languages:
        if not np.array_equal(first.tables[f"ids/{language}"], other.tables[f"ids/{language}"]):
            raise UserError(f"{other.folder}: other {language} questions, or in another order, than {first.folder}")
        mine, others = (np.isnan(one.tables[f"{first.metrics[0]}/{language}"]) for one in (first, other))
        if not np.array_equal(mine, others):
            raise UserError(f"{other.folder}: other {language} questions have answers than in {first.folder}")


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
