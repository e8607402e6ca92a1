"""The paper's claim put to the test: is hybrid as good as the better of X-X-mono and X-Y in every setting at once?

For each start, task and setting: hybrid minus the better rival, its interval over questions, a paired test, a verdict.
N parallel questions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hybatch.evaluation.significance import Estimates, compare, holm, question_sums
from hybatch.reporting.study.aggregate import PAPER_ALPHA, Estimate, Group, Study, summary_figure
from hybatch.reporting.tables import SETTINGS, Setting

Verdict = Literal["better", "worse", "not distinguishable", "not tested"]
LEVEL = 0.05
RESAMPLES = 10_000
RIVALS = ("x-x-mono", "x-y")
# Three digits are what seeds leave certain; the ranks of a whole pool need none after the point.
MEASURES = tuple(dataclasses.replace(one, digits=3 if one.metric == "map" else 0) for one in SETTINGS)


@dataclass(frozen=True, eq=False)
class QuestionTest:
    """Hybrid minus rival over questions, each its mean over the seeds: difference, 95% interval, p values.

    The difference weighs every question alike, the tables weigh every language or pair alike: the two are equal where
    every question exists in every language. `p_corrected` is Holm's over all claims of the study.
    """

    difference: float
    low: float
    high: float
    p_value: float
    p_corrected: float


@dataclass(frozen=True, eq=False)
class Claim:
    """One row: hybrid against the rival that has the better mean, by the figures of the tables.

    seeds_better, seeds_common: of the seeds that both were run with, those in which hybrid is better.
    test: None where a run lacks the figures of questions.
    """

    start: str
    task: str
    measure: Setting
    hybrid: Group
    hybrid_figure: Estimate
    rival: Group
    rival_figure: Estimate
    seeds_better: int
    seeds_common: int
    test: QuestionTest | None

    @property
    def difference(self) -> float:
        """Hybrid minus rival, by the tables' means."""
        return self.hybrid_figure.mean - self.rival_figure.mean

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
    """A claim before it is tested: `questions` are ids [N] and differences float64 [N], None if they are not there."""

    claim: Claim
    questions: tuple[np.ndarray, np.ndarray] | None


def study_claims(study: Study) -> tuple[Claim, ...]:
    """Every claim that the study's runs can speak to: the start has all three samplings, scored on the task.

    Runs that left languages out are not among them. Corrected for all claims together (Holm).
    """
    cases = [
        case
        for start in study.starts
        for task in study.languages
        for measure in MEASURES
        if (case := _case(study, start, task, measure)) is not None
    ]
    tests = _tests(cases)
    return tuple(dataclasses.replace(case.claim, test=tests.get(number)) for number, case in enumerate(cases))


def _case(study: Study, start: str, task: str, measure: Setting) -> _Case | None:
    hybrid = study.group(start, "hybrid", PAPER_ALPHA)
    rivals = [study.group(start, sampling) for sampling in RIVALS]
    if hybrid is None or None in rivals:
        return None
    figure = summary_figure(task, measure.setting, measure.metric)
    own = hybrid.estimate(figure)
    found = [(rival, estimate) for rival in rivals if rival is not None and (estimate := rival.estimate(figure))]
    if own is None or len(found) < len(rivals):
        return None
    sign = 1 if measure.higher_is_better else -1
    rival, rival_figure = max(found, key=lambda one: sign * one[1].mean)
    by_seed = [{run.seed: value for run in g.runs if (value := figure(run)) is not None} for g in (hybrid, rival)]
    common = by_seed[0].keys() & by_seed[1].keys()
    claim = Claim(
        start=start,
        task=task,
        measure=measure,
        hybrid=hybrid,
        hybrid_figure=own,
        rival=rival,
        rival_figure=rival_figure,
        seeds_better=sum(sign * by_seed[0][seed] > sign * by_seed[1][seed] for seed in common),
        seeds_common=len(common),
        test=None,
    )
    return _Case(claim, _question_differences(hybrid, rival, task, measure))


def _question_differences(
    hybrid: Group, rival: Group, task: str, measure: Setting
) -> tuple[np.ndarray, np.ndarray] | None:
    """Ids [N] and float64 [N] of hybrid minus rival; None if a scored run lacks them, or no question counts."""
    scored = [[run for run in group.runs if task in run.results] for group in (hybrid, rival)]
    if not all(task in run.questions for runs in scored for run in runs):
        return None
    name = "rank_distance" if measure.metric == "rank_distance" else measure.setting
    means = [np.mean([getattr(run.questions[task], name) for run in runs], axis=0) for runs in scored]
    differences_N = means[0] - means[1]
    return None if np.isnan(differences_N).all() else (scored[0][0].questions[task].ids, differences_N)


def _tests(cases: Sequence[_Case]) -> dict[int, QuestionTest]:
    """Of the cases that have questions, by their numbers; those of one task share the work of drawing resamples."""
    drawn: dict[int, tuple[Estimates, int]] = {}
    for task in dict.fromkeys(case.claim.task for case in cases):
        of_task = {n: case.questions for n, case in enumerate(cases) if case.claim.task == task and case.questions}
        if of_task:
            ids, differences = zip(*of_task.values(), strict=True)
            rows = [[column] for column in range(len(of_task))]
            estimates = compare(question_sums(ids, differences), rows, resamples=RESAMPLES)
            drawn |= {number: (estimates, column) for column, number in enumerate(of_task)}
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
