"""The study's runs in groups that differ in the seed alone, and figures of a group as mean and standard deviation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hybatch.evaluation.table import cross_lingual_means
from hybatch.reporting.study.comparable import check_comparable
from hybatch.reporting.study.records import SCRATCH, StudyRun

PAPER_ALPHA = 0.5
PAPER_SAMPLINGS = ("x-x-mono", "x-y", "hybrid")
_STARTS = ("mini-xlmr", "mini-labse")
_TASKS = ("xquad-r", "mlqa-r")
_SAMPLING_NAMES = {
    "x-x-mono": "X-X-mono",
    "x-y": "X-Y",
    "x-x": "X-X",
    "en-en": "En-En",
    "sequential": "sequential",
    "hybrid-scheduled": "hybrid scheduled",
}
_OTHER_SAMPLINGS = ("x-x", "en-en", "sequential", "hybrid", "hybrid-scheduled")

RunFigure = Callable[[StudyRun], float | None]
"""A figure of one run; None where the run has none."""


@dataclass(frozen=True)
class Estimate:
    """Of a figure over the seeds: mean, sample standard deviation (None with one seed), and how many seeds."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in the seed alone, by seed."""

    start: str
    sampling: str
    alpha: float | None
    unseen_languages: tuple[str, ...]
    runs: tuple[StudyRun, ...]

    @property
    def label(self) -> str:
        """The sampling, such as "X-Y" or "hybrid 0.25"; the paper's hybrid is "hybrid"."""
        if self.sampling != "hybrid":
            return _SAMPLING_NAMES[self.sampling]
        return "hybrid" if self.alpha == PAPER_ALPHA else f"hybrid {self.alpha:g}"

    @property
    def is_paper(self) -> bool:
        """Whether the sampling is one of the three that the paper compares."""
        return self.sampling in PAPER_SAMPLINGS and self.alpha in (None, PAPER_ALPHA)

    @property
    def mono_share(self) -> float | None:
        """The share of X-X-mono batches beside X-Y ones: 0 to 1; None where it changes, or there are other batches."""
        return self.alpha if self.sampling == "hybrid" else {"x-y": 0.0, "x-x-mono": 1.0}.get(self.sampling)

    def estimate(self, figure: RunFigure) -> Estimate | None:
        """The figure over the runs that have it; None if none has."""
        values = [value for run in self.runs if (value := figure(run)) is not None]
        if not values:
            return None
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return Estimate(float(np.mean(values)), sd, len(values))


@dataclass(frozen=True, eq=False)
class Study:
    """Comparable runs: `groups` in the order of the tables' rows, all groups of a start together."""

    groups: tuple[Group, ...]

    @property
    def runs(self) -> tuple[StudyRun, ...]:
        """All of them, group by group."""
        return tuple(run for group in self.groups for run in group.runs)

    @property
    def starts(self) -> tuple[str, ...]:
        """In the order of the tables; "scratch" last."""
        return tuple(dict.fromkeys(group.start for group in self.groups))

    @cached_property
    def languages(self) -> Mapping[str, tuple[str, ...]]:
        """Task with language settings -> its languages; XQuAD-R and MLQA-R first."""
        return self._task_languages(lambda results: "pairs" in results)

    @cached_property
    def figure_tasks(self) -> Mapping[str, tuple[str, ...]]:
        """Task with one row of figures a language, such as Tatoeba -> its languages."""
        return self._task_languages(lambda results: "pairs" not in results)

    def group(
        self, start: str, sampling: str, alpha: float | None = None, unseen_languages: tuple[str, ...] = ()
    ) -> Group | None:
        """One group; None if the study has no such run."""
        key = (start, sampling, alpha, unseen_languages)
        return next((g for g in self.groups if (g.start, g.sampling, g.alpha, g.unseen_languages) == key), None)

    def _task_languages(self, wanted: Callable[[Mapping[str, Any]], bool]) -> dict[str, tuple[str, ...]]:
        found = {
            task: tuple(results["languages"])
            for run in self.runs
            for task, results in run.results.items()
            if wanted(results)
        }
        return {task: found[task] for task in sorted(found, key=lambda task: (_place(task, _TASKS), task))}


def gather_study(runs: Sequence[StudyRun]) -> Study:
    """Group the runs, after checking that their figures may stand in one table.

    Raises:
        UserError: two runs are the same but for the name, start from other weights, took other steps, or were scored
            on other data.
    """
    check_comparable(runs)
    groups: dict[tuple[Any, ...], list[StudyRun]] = {}
    for run in sorted(runs, key=_order):
        groups.setdefault((run.start, run.sampling, run.alpha, run.unseen_languages), []).append(run)
    return Study(
        tuple(
            Group(one.start, one.sampling, one.alpha, one.unseen_languages, (one, *others))
            for one, *others in groups.values()
        )
    )


def summary_figure(task: str, setting: str, metric: str = "map") -> RunFigure:
    """The mean over a setting's languages or pairs, of results.json's summary."""

    def figure(run: StudyRun) -> float | None:
        return run.results[task]["summary"][setting].get(metric) if task in run.results else None

    return figure


def language_figure(task: str, setting: str, language: str, metric: str = "map") -> RunFigure:
    """Of one query language; cross-lingual: the mean over the other candidate languages that have the figure."""

    def figure(run: StudyRun) -> float | None:
        if task not in run.results:
            return None
        results = run.results[task]
        if setting == "monolingual":
            return results["pairs"][language][language].get(metric)
        if setting == "cross_lingual":
            return cross_lingual_means({"pairs": {language: results["pairs"][language]}}, metric)[language]
        return results["multilingual"][language].get(metric)

    return figure


def task_figure(task: str, metric: str, language: str | None = None) -> RunFigure:
    """Of a task with one row of figures a language: that language's, or the mean over all of them."""

    def figure(run: StudyRun) -> float | None:
        if task not in run.results:
            return None
        results = run.results[task]
        return (results["summary"]["mean"] if language is None else results["figures"][language]).get(metric)

    return figure


def _place(name: str, known: Sequence[str]) -> int:
    return known.index(name) if name in known else len(known)


def _order(run: StudyRun) -> tuple[Any, ...]:
    """The paper's samplings first, then others, other alphas and the schedule; runs that left languages out last."""
    if run.sampling in PAPER_SAMPLINGS and run.alpha in (None, PAPER_ALPHA):
        sampling = PAPER_SAMPLINGS.index(run.sampling)
    else:
        sampling = len(PAPER_SAMPLINGS) + _place(run.sampling, _OTHER_SAMPLINGS)
    start = (run.start == SCRATCH, _place(run.start, _STARTS), run.start)
    return (*start, run.unseen_languages, sampling, run.alpha or 0.0, run.seed, run.name)
