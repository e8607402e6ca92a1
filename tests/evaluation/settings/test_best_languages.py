"""The languages of the best candidates, from what the ranking op has kept."""

from __future__ import annotations

import numpy as np
import torch

from hybatch.evaluation.settings.best_languages import best_languages, language_counts
from hybatch.ops import BestCandidates

GROUPS_D = np.array([0, 0, 1, 1, 2, 2])
BEST = BestCandidates(
    scores=torch.tensor([[9.0, 8.0, 7.0]] * 3),
    index=torch.tensor([[4, 0, 2], [1, 2, 5], [3, 2, 0]]),
    group_scores=torch.tensor([[8.0, 7.0, 9.0], [9.0, 8.0, 7.0], [7.0, 9.0, 7.0]]),
    group_index=torch.tensor([[0, 2, 4], [1, 2, 5], [0, 3, 4]]),
)


def test_the_pool_has_the_languages_of_the_kept_candidates_of_the_queries_meant() -> None:
    found = best_languages(BEST, slice(1, 3), GROUPS_D, own=2, pivot=None)
    np.testing.assert_array_equal(found.pool_QK, [[0, 1, 2], [1, 1, 0]])
    assert found.pair_Q1 is None


def test_the_better_of_two_languages_is_first_in_their_pool_and_the_earlier_candidate_where_scores_are_equal() -> None:
    for own, pivot in ((0, 2), (2, 0)):
        found = best_languages(BEST, slice(0, 3), GROUPS_D, own, pivot)
        np.testing.assert_array_equal(found.pair_Q1, [[2], [0], [0]])


def test_a_language_without_candidates_is_never_first() -> None:
    absent = torch.tensor([[-torch.inf, 1.0]])
    best = BestCandidates(torch.ones(1, 1), torch.zeros(1, 1).long(), absent, torch.tensor([[-1, 0]]))
    np.testing.assert_array_equal(best_languages(best, slice(0, 1), np.array([1]), 0, 1).pair_Q1, [[1]])


def test_the_pool_of_the_pivot_itself_has_no_pair() -> None:
    assert best_languages(BEST, slice(0, 3), GROUPS_D, own=1, pivot=1).pair_Q1 is None


def test_languages_are_counted_within_every_cutoff() -> None:
    languages_QK = np.array([[0] * 60 + [1] * 40, [2] * 10 + [1] * 90])
    np.testing.assert_array_equal(language_counts(languages_QK, 4), [[10, 0, 10, 0], [60, 130, 10, 0]])
