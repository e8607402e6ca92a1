"""How sure a difference between two models is: paired bootstrap, sign-flip test, correction for many settings.

The unit that is resampled and flipped is the question. A question that was asked in several languages moves in all of
them at once (a cluster bootstrap), because its answers there are not independent evidence.

C questions, S settings, B resamples, R rows of a table (each the unweighted mean of some settings).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# Questions times resamples held at once, in float64.
_BLOCK_VALUES = 2**22


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
) -> Estimates:
    """Estimate the mean difference of each row with a percentile interval and a two-sided sign-flip test.

    The interval is the central `confidence` share of the bootstrap distribution (Efron and Tibshirani, "An Introduction
    to the Bootstrap", chapter 13). The test asks how often a difference at least as large comes about when, question by
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
    tail = (1 - confidence) / 2
    low_R, high_R = np.nanquantile(drawn_BR, [tail, 1 - tail], axis=0)
    flipped_BR = _row_means(sign_flip_means(sums, resamples=resamples, seed=seed), rows)
    # Assignments that give the same difference must count as equal, whatever the order in which they were summed.
    largest_S = np.abs(sums.sums_CS).sum(axis=0) / np.where(totals_S > 0, totals_S, 1)
    slack_R = 1e-12 * _row_means(largest_S[None], rows)[0]
    exceeding_R = (np.abs(flipped_BR) >= np.abs(observed_R) - slack_R).sum(axis=0)
    return Estimates(observed_R, low_R, high_R, (1 + exceeding_R) / (1 + resamples))


def bootstrap_means(sums: QuestionSums, *, resamples: int, seed: int) -> np.ndarray:
    """float64 [B, S]: each setting's mean over C questions drawn with replacement, the same draw for all settings.

    NaN where a draw has no query of the setting.
    """
    rng = np.random.default_rng((seed, 0))
    num_questions = len(sums.sums_CS)
    # Settings that count the same queries, as all do in a fully parallel test, share their denominators.
    counts_CU, column_S = np.unique(sums.counts_CS, axis=1, return_inverse=True)
    means_BS = np.empty((resamples, sums.sums_CS.shape[1]))
    for block in _blocks(resamples, num_questions):
        size = block.stop - block.start
        picks = rng.integers(num_questions, size=(size, num_questions))
        picks += np.arange(size)[:, None] * num_questions
        times_BC = np.bincount(picks.ravel(), minlength=size * num_questions).reshape(size, -1).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means_BS[block] = (times_BC @ sums.sums_CS) / (times_BC @ counts_CU)[:, column_S.ravel()]
    return means_BS


def sign_flip_means(sums: QuestionSums, *, resamples: int, seed: int) -> np.ndarray:
    """float64 [B, S]: each setting's mean with the sign of every question's differences drawn at random."""
    rng = np.random.default_rng((seed, 1))
    means_BS = np.empty((resamples, sums.sums_CS.shape[1]))
    for block in _blocks(resamples, len(sums.sums_CS)):
        signs_BC = rng.integers(2, size=(block.stop - block.start, len(sums.sums_CS)), dtype=np.int8) * 2.0 - 1.0
        means_BS[block] = signs_BC @ sums.sums_CS
    with np.errstate(invalid="ignore"):
        return np.asarray(means_BS / sums.counts_CS.sum(axis=0))


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
