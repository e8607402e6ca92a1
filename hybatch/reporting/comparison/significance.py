"""How sure a difference between two models is: paired bootstrap, sign-flip test, correction for many settings.

The unit that is resampled and flipped is the question. A question that was asked in several languages moves in all of
them at once (a cluster bootstrap), because its answers there are not independent evidence. Settings that share no
question, such as languages with questions of their own, are resampled each by itself (a stratified bootstrap).

C questions, X kinds of equal ones, S settings, U of which count different queries, B resamples, R rows of a table (each
the unweighted mean of some settings).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

Interval = Literal["percentile", "bca"]
INTERVALS: tuple[Interval, ...] = ("percentile", "bca")

# Questions times resamples held at once, in float64.
_BLOCK_VALUES = 2**22
# Where questions fall into this many times fewer kinds of equal ones (right, wrong), the kinds are drawn.
_ALIKE = 4


@dataclass(frozen=True)
class QuestionSums:
    """What the queries of each question add to each setting.

    sums_CS: sum of their differences; float64.
    counts_CS: how many of them the setting counts; float64.
    """

    sums_CS: np.ndarray
    counts_CS: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """float64 [S]: the mean difference in each setting; NaN where no query counts."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.sums_CS.sum(axis=0) / self.counts_CS.sum(axis=0))


@dataclass(frozen=True)
class Estimates:
    """Arrays are float64 [R]: the observed difference, its interval, and the p value of "there is none"."""

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray


def question_sums(ids: Sequence[np.ndarray], differences: Sequence[np.ndarray]) -> QuestionSums:
    """Gather the paired differences of S settings by question.

    Args:
        ids: per setting, the question id of every query, [Q_s].
        differences: per setting, float64 [Q_s]; NaN where the setting leaves the query out.
    """
    questions = np.unique(np.concatenate(ids))
    sums_CS = np.empty((len(questions), len(ids)))
    counts_CS = np.empty_like(sums_CS)
    for setting, (names, values) in enumerate(zip(ids, differences, strict=True)):
        counted = ~np.isnan(values)
        question_Q = np.searchsorted(questions, names[counted])
        sums_CS[:, setting] = np.bincount(question_Q, weights=values[counted], minlength=len(questions))
        counts_CS[:, setting] = np.bincount(question_Q, minlength=len(questions))
    return QuestionSums(sums_CS, counts_CS)


def compare(
    sums: QuestionSums,
    rows: Sequence[Sequence[int]],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
    interval: Interval = "percentile",
) -> Estimates:
    """Estimate the mean difference of each row with a bootstrap interval and a two-sided sign-flip test.

    The percentile interval is the central `confidence` share of the bootstrap distribution (Efron and Tibshirani, "An
    Introduction to the Bootstrap", chapter 13); the bca interval moves its ends for bias and skewness (chapter 14; the
    acceleration from the empirical influence of every question, Davison and Hinkley, "Bootstrap Methods and their
    Application", section 5.4). The test asks how often a difference at least as large comes about when, question by
    question, a coin decides which model is which (Fisher's randomisation test; Smucker, Allan and Carterette, CIKM
    2007). Its p value counts the observed assignment as one of the draws, (1 + exceeding) / (1 + B) (Phipson and Smyth
    2010, arXiv 1603.05766), so it is never 0 and the test is valid for any B.

    Args:
        rows: settings to average, without weights; one of them for a setting itself. Settings must count queries.

    Raises:
        ValueError: a row is empty or has a setting without queries, or resamples or confidence are out of range.
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(f"resamples {resamples} must be at least 1, confidence {confidence} within (0, 1)")
    totals_S = sums.counts_CS.sum(axis=0)
    if any(not len(row) or not totals_S[list(row)].all() for row in rows):
        raise ValueError("every row needs a setting, and every setting a query that counts")
    observed_R = _row_means(sums.means[None], rows)[0]
    drawn_BR = _row_means(bootstrap_means(sums, resamples=resamples, seed=seed), rows)
    flipped_BR = _row_means(sign_flip_means(sums, resamples=resamples, seed=seed), rows)
    # Assignments that give the same difference must count as equal, whatever the order in which they were summed.
    largest_S = np.abs(sums.sums_CS).sum(axis=0) / np.where(totals_S > 0, totals_S, 1)
    slack_R = 1e-12 * _row_means(largest_S[None], rows)[0]
    exceeding_R = (np.abs(flipped_BR) >= np.abs(observed_R) - slack_R).sum(axis=0)
    tail = (1 - confidence) / 2
    if interval == "bca":
        low_R, high_R = _bca(drawn_BR, observed_R, slack_R, _acceleration(sums, rows), tail)
    else:
        low_R, high_R = np.nanquantile(drawn_BR, [tail, 1 - tail], axis=0)
    return Estimates(observed_R, low_R, high_R, (1 + exceeding_R) / (1 + resamples))


def _acceleration(sums: QuestionSums, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """float64 [R]: a sixth of the skewness of what each question adds to the row's mean."""
    totals_S = sums.counts_CS.sum(axis=0)
    means_S = np.nan_to_num(sums.means)
    influence_CS = (sums.sums_CS - means_S * sums.counts_CS) / np.where(totals_S > 0, totals_S, 1)
    influence_CR = np.stack([influence_CS[:, list(row)].mean(axis=1) for row in rows], axis=1)
    spread_R = (influence_CR**2).sum(axis=0) ** 1.5
    return np.asarray((influence_CR**3).sum(axis=0) / (6 * np.where(spread_R > 0, spread_R, 1)))


def _bca(
    drawn_BR: np.ndarray, observed_R: np.ndarray, slack_R: np.ndarray, acceleration_R: np.ndarray, tail: float
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) [R]; draws that equal the observed difference count half as below it."""
    normal = NormalDist()
    limits_2R = np.empty((2, len(observed_R)))
    for row, (observed, slack, acceleration) in enumerate(zip(observed_R, slack_R, acceleration_R, strict=True)):
        drawn_B = drawn_BR[~np.isnan(drawn_BR[:, row]), row]
        below = ((drawn_B < observed - slack).sum() + (drawn_B <= observed + slack).sum()) / (2 * len(drawn_B))
        bias = normal.inv_cdf(float(np.clip(below, 0.5 / len(drawn_B), 1 - 0.5 / len(drawn_B))))
        for side, share in enumerate((tail, 1 - tail)):
            moved = bias + normal.inv_cdf(share)
            limits_2R[side, row] = np.quantile(drawn_B, normal.cdf(bias + moved / (1 - acceleration * moved)))
    return limits_2R[0], limits_2R[1]


def bootstrap_means(sums: QuestionSums, *, resamples: int, seed: int) -> np.ndarray:
    """float64 [B, S]: each setting's mean over C questions drawn with replacement, the same draw for all settings.

    Questions are drawn from those of the settings that share some, directly or through others. NaN where a draw has no
    query of the setting.
    """
    return _by_stratum(sums, resamples, lambda part, stratum: _bootstrap(part, resamples, (seed, 0, stratum)))


def sign_flip_means(sums: QuestionSums, *, resamples: int, seed: int) -> np.ndarray:
    """float64 [B, S]: each setting's mean with the sign of every question's differences drawn at random."""
    return _by_stratum(sums, resamples, lambda part, stratum: _sign_flips(part, resamples, (seed, 1, stratum)))


def _by_stratum(sums: QuestionSums, resamples: int, draw: Callable[[QuestionSums, int], np.ndarray]) -> np.ndarray:
    means_BS = np.full((resamples, sums.sums_CS.shape[1]), np.nan)
    for number, settings in enumerate(_strata(sums.counts_CS > 0)):
        asked_C = (sums.counts_CS[:, settings] > 0).any(axis=1)
        part = QuestionSums(sums.sums_CS[np.ix_(asked_C, settings)], sums.counts_CS[np.ix_(asked_C, settings)])
        means_BS[:, settings] = draw(part, number)
    return means_BS


def _strata(asked_CS: np.ndarray) -> list[np.ndarray]:
    """The settings, in groups that share no question with one another; settings without any are in none.

    In the order of the groups' first questions.
    """
    asked = asked_CS.astype(np.float32)
    shared_SS = asked.T @ asked > 0
    label_S = np.arange(len(shared_SS))
    while True:
        least_S = np.where(shared_SS, label_S, len(label_S)).min(axis=1, initial=len(label_S))
        least_S = np.minimum(least_S, label_S)
        if np.array_equal(least_S, label_S):
            break
        label_S = least_S
    there_S = shared_SS.diagonal()
    groups = [np.flatnonzero((label_S == label) & there_S) for label in np.unique(label_S[there_S])]
    return sorted(groups, key=lambda settings: int(asked_CS[:, settings].any(axis=1).argmax()))


def _bootstrap(sums: QuestionSums, resamples: int, seed: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    num_questions = len(sums.sums_CS)
    kinds, times_X = _alike(sums)
    # Settings that count the same queries, as all do in a fully parallel test, share their denominators.
    counts_XU, column_S = np.unique(kinds.counts_CS, axis=1, return_inverse=True)
    means_BS = np.empty((resamples, sums.sums_CS.shape[1]))
    for block in _blocks(resamples, len(times_X)):
        size = block.stop - block.start
        if len(times_X) < num_questions:
            times_BX = rng.multinomial(num_questions, times_X / num_questions, size=size).astype(np.float64)
        else:
            picks = rng.integers(num_questions, size=(size, num_questions))
            picks += np.arange(size)[:, None] * num_questions
            times_BX = np.bincount(picks.ravel(), minlength=size * num_questions).reshape(size, -1).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means_BS[block] = (times_BX @ kinds.sums_CS) / (times_BX @ counts_XU)[:, column_S.ravel()]
    return means_BS


def _sign_flips(sums: QuestionSums, resamples: int, seed: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kinds, times_X = _alike(sums)
    means_BS = np.empty((resamples, sums.sums_CS.shape[1]))
    for block in _blocks(resamples, len(times_X)):
        size = block.stop - block.start
        if len(times_X) < len(sums.sums_CS):
            signs_BX = 2.0 * rng.binomial(times_X, 0.5, size=(size, len(times_X))) - times_X
        else:
            signs_BX = rng.integers(2, size=(size, len(times_X)), dtype=np.int8) * 2.0 - 1.0
        means_BS[block] = signs_BX @ kinds.sums_CS
    return np.asarray(means_BS / sums.counts_CS.sum(axis=0))


def _alike(sums: QuestionSums) -> tuple[QuestionSums, np.ndarray]:
    """Questions that add the same to every setting as one, and how many they are; all as they are if few are alike.

    How often one of n equal questions is drawn, or flipped, is multinomial, or binomial: one draw in the place of n.
    """
    num_questions, num_settings = sums.sums_CS.shape
    both = np.concatenate([sums.sums_CS, sums.counts_CS], axis=1)
    _, first, times = np.unique(both, axis=0, return_index=True, return_counts=True)
    if _ALIKE * len(first) > num_questions:
        return sums, np.ones(num_questions, dtype=np.int64)
    # In the order of the questions, which neither that of the settings nor an exchange of the models moves.
    order = np.argsort(first)
    rows = both[first[order]]
    return QuestionSums(rows[:, :num_settings], rows[:, num_settings:]), times[order]


def holm(p_values: np.ndarray) -> np.ndarray:
    """p values adjusted so that the chance of any false finding stays below the level (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """p values adjusted so that the expected share of false findings stays below it (Benjamini and Hochberg 1995)."""
    order = np.argsort(p_values, kind="stable")[::-1]
    scaled = p_values[order] * len(p_values) / np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.minimum.accumulate(scaled))
    return adjusted


def _row_means(means_BS: np.ndarray, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """[B, R]: unweighted means of the settings of each row, over those that have a mean in the draw."""
    there_BS = ~np.isnan(means_BS)
    filled_BS = np.where(there_BS, means_BS, 0.0)
    with np.errstate(invalid="ignore"):
        columns = [filled_BS[:, list(row)].sum(axis=1) / there_BS[:, list(row)].sum(axis=1) for row in rows]
    return np.stack(columns, axis=1)


def _blocks(resamples: int, num_questions: int) -> Iterator[slice]:
    size = max(1, _BLOCK_VALUES // num_questions)
    for start in range(0, resamples, size):
        yield slice(start, min(start + size, resamples))
