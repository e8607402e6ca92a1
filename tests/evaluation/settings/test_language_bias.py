"""Preferences among languages, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.evaluation.settings.language_bias import language_bias, own_language_first, top_language_shares

NAN = float("nan")


def test_a_query_prefers_its_own_language_where_that_answer_ranks_first() -> None:
    ranks = np.array([[1, 5, 9], [4, 2, NAN], [7, 8, NAN], [3, NAN, NAN], [NAN, 1, 2]])
    np.testing.assert_array_equal(own_language_first(ranks, 0), [1, 0, 1, NAN, NAN])


def test_a_model_that_favours_one_language_is_as_far_from_even_as_can_be_counted() -> None:
    ranks = {x: np.array([[1.0, 50, 60, 70]] * 3) for x in "abcd"}
    bias = language_bias(ranks, "abcd", top=10)
    assert bias["top_share"] == {"a": 1, "b": 0, "c": 0, "d": 0}
    assert bias["top_share_uniform"] == dict.fromkeys("abcd", 0.25)
    assert bias["top_share_distance"] == 0.75
    assert (bias["own_language_first"], bias["own_language_first_uniform"]) == (0.25, 0.25)


def test_nothing_to_count_gives_no_figures() -> None:
    bias = language_bias({"a": np.array([[50.0]])}, ["a"])
    assert bias["own_language_first"] is bias["top_share"] is bias["top_share_distance"] is None


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_shares_are_counted_answer_by_answer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranks = {x: rng.permutation(60)[:15].reshape(5, 3) + 1.0 for x in "abc"}
    for table in ranks.values():
        table[rng.random(table.shape) < 0.3] = np.nan
    bias = language_bias(ranks, "abc", top=20)
    found, even = dict.fromkeys("abc", 0.0), dict.fromkeys("abc", 0.0)
    for row in np.concatenate(list(ranks.values())):
        answers = {x: rank for x, rank in zip("abc", row, strict=True) if not np.isnan(rank)}
        within = [x for x, rank in answers.items() if rank <= 20]
        for x in within:
            found[x] += 1
        for x in answers:
            even[x] += len(within) / len(answers)
    total = sum(found.values())
    if total:
        assert bias["top_share"] == pytest.approx({x: n / total for x, n in found.items()})
        assert bias["top_share_uniform"] == pytest.approx({x: n / total for x, n in even.items()})
        assert sum(bias["top_share_uniform"].values()) == pytest.approx(1)


def test_the_shares_of_all_best_candidates_stand_beside_those_of_the_pool() -> None:
    counts = {"a": np.array([[20, 0], [150, 50]]), "b": np.array([[5, 5], [60, 40]]), "c": np.zeros((2, 2), int)}
    counts = {x: np.pad(table, ((0, 0), (0, 1))) for x, table in counts.items()}
    found = top_language_shares(counts, {"a": 2, "b": 1, "c": 0}, {"a": 150, "b": 150, "c": 0})
    assert found["pool_share"] == {"a": 0.5, "b": 0.5, "c": 0.0}
    ten = found["top"]["10"]
    assert ten["share"] == {"a": {"a": 1.0, "b": 0.0, "c": 0.0}, "b": {"a": 0.5, "b": 0.5, "c": 0.0}, "c": None}
    assert ten["mean_share"] == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert (ten["distance"], ten["own"], ten["own_uniform"]) == (0.25, 0.75, 0.5)
    assert found["top"]["100"]["mean_share"] == pytest.approx({"a": 0.675, "b": 0.325, "c": 0.0})


def test_of_a_pool_with_fewer_candidates_all_are_the_best() -> None:
    found = top_language_shares({"a": np.array([[2], [2]])}, {"a": 1}, {"a": 2})
    assert found["top"]["100"]["share"] == {"a": {"a": 1.0}}
    assert found["top"]["100"]["distance"] == 0.0
