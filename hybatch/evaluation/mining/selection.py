"""Which of the passages retrieved for a question become its hard negatives.

K passages retrieved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xxhash


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a hard negative must be."""

    negatives: int = 8
    """So many a question at most: the most similar, or, with `random_seed`, drawn ones."""
    first_rank: int = 10
    """Rank of the first passage considered: 1 is the most similar one that is no answer to the question."""
    last_rank: int = 200
    """Rank of the last passage considered."""
    margin: float | None = None
    """A negative must score below the positive's score less this."""
    ratio: float | None = None
    """A negative must score below the positive's score less a share of 1 - this of its size: below this times a
    positive above 0, and as far below one that is not (NV-Retriever, arXiv 2407.15831, recommends 0.95)."""
    max_score: float | None = None
    """A negative must score below this, whatever the positive scores."""
    random_seed: int | None = None
    """Draw the negatives from all that may be some, by this seed, the question and the text; None: the most similar."""

    def limit(self, positive: float) -> float:
        """The score that a negative must stay below; infinite without any limit, the least one with several.

        That of `ratio` is positive - (1 - ratio) * abs(positive), which is never above the positive.
        """
        limits = [float("inf") if self.max_score is None else self.max_score]
        if self.margin is not None:
            limits.append(positive - self.margin)
        if self.ratio is not None:
            limits.append(positive * (self.ratio if positive >= 0 else 2 - self.ratio))
        return min(limits)


Draw = Callable[[int], int]
"""Of a candidate, a number that nothing but seed, question and text decide."""


def draw_of(seed: int, language: str, example: str, texts: Sequence[str]) -> Draw:
    """The draws of the question of `example` in `language` among the candidates that `texts` are.

    A candidate's draw does not depend on which others there are, nor on the order in which questions come.
    """
    question = f"{seed}\0{language}\0{example}\0"
    return lambda candidate: xxhash.xxh3_64_intdigest((question + texts[candidate]).encode())


class Selection(NamedTuple):
    """The places [n] of the negatives among the passages retrieved, and how many passages were passed over."""

    places: np.ndarray
    answers_passed: int
    """Answers to the question that stood before the end of the rank window."""
    above_limit: int
    """Passages of the rank window that scored too high."""


def in_window(found_K: np.ndarray, answers: np.ndarray, rule: Rule) -> np.ndarray:
    """bool [K]: the candidates, from the most similar on, that are no answer and have a rank that the rule considers.

    Args:
        found_K: int64; -1 where there were no more. For a full rank window it must hold `rule.last_rank` candidates
            beside the answers.
        answers: the candidates that are no negatives.
    """
    open_K = (found_K >= 0) & ~np.isin(found_K, answers)
    rank_K = np.cumsum(open_K)
    return open_K & (rank_K >= rule.first_rank) & (rank_K <= rule.last_rank)


def select(
    found_K: np.ndarray,
    scores_K: np.ndarray,
    answers: np.ndarray,
    positive: float,
    rule: Rule,
    draw: Draw | None = None,
) -> Selection:
    """Choose the negatives of one question.

    Args:
        found_K, answers: as of `in_window`.
        scores_K: float32, by whichever model judges; only those of the rank window are looked at.
        positive: the score of the question's own passage.
        draw: those of the smallest draws are chosen; None: the most similar.
    """
    window_K = in_window(found_K, answers, rule)
    below_K = scores_K.astype(np.float64) < rule.limit(positive)
    places = np.flatnonzero(window_K & below_K)
    if draw is not None:
        drawn = sorted(places.tolist(), key=lambda place: draw(int(found_K[place])))
        places = np.array(sorted(drawn[: rule.negatives]), dtype=np.int64)
    answer_K = np.isin(found_K, answers) & (found_K >= 0)
    rank_K = np.cumsum((found_K >= 0) & ~answer_K)
    return Selection(
        places=places[: rule.negatives],
        answers_passed=int((answer_K & (rank_K < rule.last_rank)).sum()),
        above_limit=int((window_K & ~below_K).sum()),
    )
