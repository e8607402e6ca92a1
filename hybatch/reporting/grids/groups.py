"""A grid's runs in groups that differ in the seed alone, and figures of a group as mean and standard deviation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hybatch.reporting.grids.comparable import check_comparable
from hybatch.reporting.grids.description import Claim, GridDescription
from hybatch.reporting.grids.records import DEFAULT_ALPHA, Run
from hybatch.reporting.results import LanguageResults, PairResults
from hybatch.reporting.samplings import HYBRID, SCHEDULED
from hybatch.sampling.kinds import CROSS_LINGUAL, KINDS, MONOLINGUAL

# Where a grid's description does not say it.
_ORDER = (*KINDS, HYBRID, "sequential", SCHEDULED)

RunFigure = Callable[[Run], float | None]
"""A figure of one run; None where the run has none."""


@dataclass(frozen=True)
class Estimate:
    """Of a figure over the seeds: mean, sample standard deviation (None with one seed), and how many seeds."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in the seed alone, by seed. `start_label`: what tables call the start."""

    start: str
    start_label: str
    unseen_languages: tuple[str, ...]
    runs: tuple[Run, ...]

    @property
    def sampling(self) -> str:
        """As in the runs."""
        return self.runs[0].sampling

    @property
    def key(self) -> str:
        """What a grid's description calls the sampling."""
        return self.runs[0].sampling_key

    @property
    def label(self) -> str:
        """The sampling, such as "X-Y" or "hybrid 0.25"."""
        return self.runs[0].sampling_label

    @property
    def is_fresh(self) -> bool:
        """Whether training started from random weights."""
        return self.runs[0].backbone_sha256 is None

    @property
    def mono_share(self) -> float | None:
        """The share of X-X-mono batches beside X-Y ones: 0 to 1; None where it changes, or there are other batches."""
        return self.runs[0].alpha if self.sampling == HYBRID else {CROSS_LINGUAL: 0.0, MONOLINGUAL: 1.0}.get(self.key)

    def estimate(self, figure: RunFigure) -> Estimate | None:
        """The figure over the runs that have it; None if none has."""
        values = [value for run in self.runs if (value := figure(run)) is not None]
        if not values:
            return None
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return Estimate(float(np.mean(values)), sd, len(values))


@dataclass(frozen=True, eq=False)
class Grid:
    """Comparable runs: `groups` in the order of the tables' rows, all groups of a start together."""

    description: GridDescription
    groups: tuple[Group, ...]

    @property
    def name(self) -> str:
        """What its tables and figures are called by."""
        return self.description.name

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What its description puts to the test."""
        return self.description.claims

    @property
    def runs(self) -> tuple[Run, ...]:
        """All of them, group by group."""
        return tuple(run for group in self.groups for run in group.runs)

    @property
    def starts(self) -> tuple[str, ...]:
        """In the order of the tables; unless the description says otherwise, random weights come last."""
        return tuple(dict.fromkeys(group.start for group in self.groups))

    @cached_property
    def samplings(self) -> tuple[str, ...]:
        """The keys of the samplings that there are, in the order of the tables."""
        firsts = {group.key: group.runs[0] for group in self.groups}
        return tuple(sorted(firsts, key=lambda key: _sampling_order(firsts[key], self.description)))

    @cached_property
    def languages(self) -> Mapping[str, tuple[str, ...]]:
        """Task with language settings -> its languages."""
        return self._task_languages(PairResults)

    @cached_property
    def figure_tasks(self) -> Mapping[str, tuple[str, ...]]:
        """Task with one row of figures a language, such as Tatoeba -> its languages."""
        return self._task_languages(LanguageResults)

    def group(self, start: str, key: str, unseen_languages: tuple[str, ...] = ()) -> Group | None:
        """One group; None if the grid has no such run."""
        wanted = (start, key, unseen_languages)
        return next((g for g in self.groups if (g.start, g.key, g.unseen_languages) == wanted), None)

    def _task_languages(self, kind: type) -> dict[str, tuple[str, ...]]:
        found = {
            task: results.languages
            for run in self.runs
            for task, results in run.results.items()
            if isinstance(results, kind)
        }
        tasks = self.description.tasks
        return {task: found[task] for task in sorted(found, key=lambda task: (_place(task, tasks), task))}


def gather_grid(runs: Sequence[Run], description: GridDescription) -> Grid:
    """Group the runs, after checking that their figures may stand in one table.

    Raises:
        UserError: two runs are the same but for the name, start from other weights, took other steps, or were scored
            on other data.
    """
    check_comparable(runs)
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: _order(run, description)):
        groups.setdefault((run.start, run.sampling, run.alpha, run.unseen_languages), []).append(run)
    return Grid(
        description,
        tuple(
            Group(members[0].start, description.start(members[0].start).label, unseen, tuple(members))
            for (*_, unseen), members in groups.items()
        ),
    )


def summary_figure(task: str, setting: str, metric: str = "map") -> RunFigure:
    """The mean over a setting's languages or pairs, of the summary of results."""

    def figure(run: Run) -> float | None:
        return run.results[task].summary[setting].get(metric) if task in run.results else None

    return figure


def language_figure(task: str, setting: str, language: str, metric: str = "map") -> RunFigure:
    """Of one query language; cross-lingual: the mean over the other candidate languages that have the figure."""

    def figure(run: Run) -> float | None:
        results = run.results.get(task)
        return results.by_language(setting, metric)[language] if isinstance(results, PairResults) else None

    return figure


def task_figure(task: str, metric: str, language: str | None = None) -> RunFigure:
    """Of a task with one row of figures a language: that language's, or the mean over all of them."""

    def figure(run: Run) -> float | None:
        results = run.results.get(task)
        if not isinstance(results, LanguageResults):
            return None
        return (results.summary["mean"] if language is None else results.figures[language]).get(metric)

    return figure


def _place(name: str, known: Sequence[str]) -> int:
    return known.index(name) if name in known else len(known)


def _order(run: Run, description: GridDescription) -> tuple[Any, ...]:
    """Starts as described, then others, random weights last; runs that left languages out behind the others."""
    start = (_place(run.start, tuple(description.starts)), run.backbone_sha256 is None, run.start)
    return (*start, run.unseen_languages, *_sampling_order(run, description), run.seed, run.name)


def _sampling_order(run: Run, description: GridDescription) -> tuple[Any, ...]:
    is_default = run.alpha in (None, DEFAULT_ALPHA)
    return (
        _place(run.sampling_key, description.samplings),
        _place(run.sampling, _ORDER),
        not is_default,
        run.alpha or 0.0,
        run.sampling,
    )
