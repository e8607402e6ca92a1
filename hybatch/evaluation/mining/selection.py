"""Which of the passages retrieved for a question become its hard negatives.

K passages retrieved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a hard negative must be."""

    negatives: int = 8
    """So many a question at most, the most similar first."""
    first_rank: int = 10
    """Rank of the first passage considered: 1 is the most similar one that is no answer to the question."""
    last_rank: int = 200
    """Rank of the last passage considered."""
    margin: float | None = None
    """A negative must score below the positive's score less this."""
    ratio: float | None = None
    """A negative must score below the positive's score less a share of 1 - this of its size: below this times a
    positive above 0, and as far below one that is not (NV-Retriever, arXiv 2407.15831, recommends 0.95)."""

    def limit(self, positive: float) -> float:
        """The score that a negative must stay below; infinite without margin and ratio, the lesser one with both.

        That of `ratio` is positive - (1 - ratio) * abs(positive), which is never above the positive.
        """
        limits = [float("inf")]
        if self.margin is not None:
            limits.append(positive - self.margin)
        if self.ratio is not None:
            limits.append(positive * (self.ratio if positive >= 0 else 2 - self.ratio))
        return min(limits)


class Selection(NamedTuple):
    """The places [n] of the negatives among the passages retrieved, and how many passages were passed over."""

    places: np.ndarray
    answers_passed: int
    """Answers to the question that stood before the end of the rank window."""
    above_limit: int
    """Passages of the rank window that scored too high."""


def select(found_K: np.ndarray, scores_K: np.ndarray, answers: np.ndarray, positive: float, rule: Rule) -> Selection:
    """Choose the negatives of one question.

    Args:
        found_K: int64, candidates from the most similar on; -1 where there were no more. For a full rank window it must
            hold `rule.last_rank` candidates beside the answers.
        scores_K: float32.
        answers: the candidates that are no negatives.
        positive: the score of the question's own passage.
    """
    present_K = found_K >= 0
    answer_K = np.isin(found_K, answers)
    rank_K = np.cumsum(present_K & ~answer_K)
    window_K = present_K & ~answer_K & (rank_K >= rule.first_rank) & (rank_K <= rule.last_rank)
    below_K = scores_K.astype(np.float64) < rule.limit(positive)
    return Selection(
        places=np.flatnonzero(window_K & below_K)[: rule.negatives],
        answers_passed=int((answer_K & (rank_K < rule.last_rank)).sum()),
        above_limit=int((window_K & ~below_K).sum()),
    )
