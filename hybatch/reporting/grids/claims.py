"""Claims put to the test: is a sampling as good as the better of its rivals in every setting at once?

For each start, task and setting: the sampling minus the better rival, its interval over questions, a paired test, a
verdict.

N parallel questions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hybatch.reporting.comparison.significance import Estimates, compare, holm, question_sums
from hybatch.reporting.grids.description import Claim
from hybatch.reporting.grids.groups import Estimate, Grid, Group, summary_figure
from hybatch.reporting.tables.measures import MEASURES as ALL_MEASURES
from hybatch.reporting.tables.measures import Measure

Verdict = Literal["better", "worse", "not distinguishable", "not tested"]
LEVEL = 0.05
RESAMPLES = 10_000
# Three digits are what seeds leave certain; the ranks of a whole pool need none after the point.
MEASURES = tuple(dataclasses.replace(one, digits=3 if one.metric == "map" else 0) for one in ALL_MEASURES)


@dataclass(frozen=True, eq=False)
class QuestionTest:
    """The sampling minus its rival over questions, each its mean over the seeds: difference, 95% interval, p values.

    The difference weighs every question alike, the tables weigh every language or pair alike: the two are equal where
    every question exists in every language. `p_corrected` is Holm's over all comparisons of the grid.
    """

    difference: float
    low: float
    high: float
    p_value: float
    p_corrected: float


@dataclass(frozen=True, eq=False)
class ClaimOutcome:
    """One row: the sampling's group against the rival that has the better mean, by the figures of the tables.

    seeds_better, seeds_common: of the seeds that both were run with, those in which the group is better.
    test: None where a run lacks the figures of questions.
    """

    claim: Claim
    task: str
    measure: Measure
    group: Group
    figure: Estimate
    rival: Group
    rival_figure: Estimate
    seeds_better: int
    seeds_common: int
    test: QuestionTest | None

    @property
    def difference(self) -> float:
        """Sampling minus rival, by the tables' means."""
        return self.figure.mean - self.rival_figure.mean

    @property
    def verdict(self) -> Verdict:
        """Where the corrected p value is below 0.05, by the sign of both differences; none if they are of two signs."""
        if self.test is None:
            return "not tested"
        if self.test.p_corrected >= LEVEL or self.test.difference * self.difference <= 0:
            return "not distinguishable"
        return "better" if (self.difference > 0) == bool(self.measure.higher_is_better) else "worse"


@dataclass(frozen=True, eq=False)
class _Case:
    """A claim before it is tested: `differences` of its questions, float64 [N], None if they are not there."""

    claim: ClaimOutcome
    differences: np.ndarray | None


def claim_outcomes(grid: Grid) -> tuple[ClaimOutcome, ...]:
    """Every claim that the grid's runs can speak to: the start has the sampling and all rivals, scored on the task.

    Runs that left languages out are not among them. Corrected for all comparisons together (Holm).
    """
    cases = [
        case
        for claim in grid.claims
        for start in grid.starts
        for task in grid.languages
        for measure in MEASURES
        if (case := _case(grid, claim, start, task, measure)) is not None
    ]
    tests = _tests(cases)
    return tuple(dataclasses.replace(case.claim, test=tests.get(number)) for number, case in enumerate(cases))


def _case(grid: Grid, claim: Claim, start: str, task: str, measure: Measure) -> _Case | None:
    group = grid.group(start, claim.sampling)
    rivals = [one for sampling in claim.rivals if (one := grid.group(start, sampling)) is not None]
    if group is None or len(rivals) < len(claim.rivals):
        return None
    figure = summary_figure(task, measure.setting, measure.metric)
    own = group.estimate(figure)
    found = [(rival, estimate) for rival in rivals if (estimate := rival.estimate(figure))]
    if own is None or len(found) < len(rivals):
        return None
    sign = 1 if measure.higher_is_better else -1
    rival, rival_figure = max(found, key=lambda one: sign * one[1].mean)
    by_seed = [{run.seed: value for run in g.runs if (value := figure(run)) is not None} for g in (group, rival)]
    common = by_seed[0].keys() & by_seed[1].keys()
    tested = ClaimOutcome(
        claim=claim,
        task=task,
        measure=measure,
        group=group,
        figure=own,
        rival=rival,
        rival_figure=rival_figure,
        seeds_better=sum(sign * by_seed[0][seed] > sign * by_seed[1][seed] for seed in common),
        seeds_common=len(common),
        test=None,
    )
    return _Case(tested, _question_differences(group, rival, task, measure))


def _question_differences(group: Group, rival: Group, task: str, measure: Measure) -> np.ndarray | None:
    """float64 [N] of the group minus its rival; None if a scored run lacks them, or no question counts."""
    scored = [[run for run in one.runs if task in run.results] for one in (group, rival)]
    if not all(task in run.questions for runs in scored for run in runs):
        return None
    name = "rank_distance" if measure.metric == "rank_distance" else measure.setting
    means = [
        np.mean([getattr(run.questions[task], name).astype(np.float64) for run in runs], axis=0) for runs in scored
    ]
    differences_N = means[0] - means[1]
    return None if np.isnan(differences_N).all() else differences_N


def _tests(cases: Sequence[_Case]) -> dict[int, QuestionTest]:
    """Of the cases that have questions, by their numbers; those of one task share the work of drawing resamples."""
    drawn: dict[int, tuple[Estimates, int]] = {}
    for task in dict.fromkeys(case.claim.task for case in cases):
        of_task = {n: case.differences for n, case in enumerate(cases) if case.claim.task == task}
        differences = {n: values_N for n, values_N in of_task.items() if values_N is not None}
        if differences:
            # The questions of a task are the same in every record, in one order.
            ids = [np.arange(len(values_N)) for values_N in differences.values()]
            rows = [[column] for column in range(len(differences))]
            estimates = compare(question_sums(ids, list(differences.values())), rows, resamples=RESAMPLES)
            drawn |= {number: (estimates, column) for column, number in enumerate(differences)}
    corrected = holm(np.array([one.p_value[column] for one, column in drawn.values()]))
    return {
        number: QuestionTest(
            difference=float(one.difference[column]),
            low=float(one.low[column]),
            high=float(one.high[column]),
            p_value=float(one.p_value[column]),
            p_corrected=float(p_corrected),
        )
        for (number, (one, column)), p_corrected in zip(drawn.items(), corrected, strict=True)
    }
