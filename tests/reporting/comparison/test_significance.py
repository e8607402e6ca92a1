"""Intervals, p values and corrections, against scipy and against what they promise."""

from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.reporting.comparison import significance
from hybatch.reporting.comparison.significance import (
    Estimates,
    Interval,
    QuestionSums,
    benjamini_hochberg,
    bootstrap_means,
    compare,
    holm,
    question_sums,
)


def _one_setting(values: np.ndarray, **options: float) -> Estimates:
    return compare(question_sums([np.arange(len(values)).astype(str)], [values]), [[0]], **options)


def test_the_interval_is_scipys_percentile_interval() -> None:
    values = np.random.default_rng(0).exponential(size=40) - 0.7
    found = _one_setting(values, resamples=20_000)
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    spread = expected.confidence_interval.high - expected.confidence_interval.low
    assert found.low[0] == pytest.approx(expected.confidence_interval.low, abs=0.03 * spread)
    assert found.high[0] == pytest.approx(expected.confidence_interval.high, abs=0.03 * spread)


@pytest.mark.parametrize("shift", [0.0, 0.4, 0.9])
def test_the_p_value_is_that_of_all_sign_assignments(shift: float) -> None:
    # Steps of 0.5 give many assignments with exactly the observed difference, which must count.
    values = np.round(np.random.default_rng(3).normal(shift, 1, size=10) * 2) / 2
    exact = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    found = _one_setting(values, resamples=20_000).p_value[0]
    assert found == pytest.approx(exact.pvalue, abs=4 * np.sqrt(exact.pvalue * (1 - exact.pvalue) / 20_000) + 1e-4)


def test_intervals_hold_the_truth_and_tests_reject_it_as_often_as_they_say() -> None:
    # 400 independent settings, each with 60 questions of its own, whose true difference is 0.
    values = np.random.default_rng(1).laplace(size=(400, 60))
    found = [_one_setting(row, resamples=400, confidence=0.9, seed=i) for i, row in enumerate(values)]
    covered = np.mean([one.low[0] <= 0 <= one.high[0] for one in found])
    rejected = np.mean([one.p_value[0] <= 0.1 for one in found])
    assert 0.85 < covered < 0.94
    assert 0.06 < rejected < 0.145


def test_parallel_questions_move_together() -> None:
    # A question asked in ten languages with one outcome is one piece of evidence, not ten.
    rng = np.random.default_rng(2)
    values, ids = rng.normal(size=50), np.arange(50).astype(str)
    row = [list(range(10))]
    together = compare(question_sums([ids] * 10, [values] * 10), row, resamples=2000)
    apart = compare(question_sums([np.char.add(ids, f"/{i}") for i in range(10)], [values] * 10), row, resamples=2000)
    alone = compare(question_sums([ids], [values]), [[0]], resamples=2000)
    assert together.high[0] - together.low[0] == pytest.approx(alone.high[0] - alone.low[0])
    assert (together.high[0] - together.low[0]) / (apart.high[0] - apart.low[0]) == pytest.approx(10**0.5, rel=0.1)


def _ragged(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    names = np.array([f"q{i}" for i in range(12)])
    ids = [rng.choice(names, size=rng.integers(2, 12)) for _ in range(5)]
    values = [rng.integers(-4, 5, size=len(one)) / 4 for one in ids]
    for one in values:
        one[1:][rng.random(len(one) - 1) < 0.3] = np.nan
    return ids, values


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.permutations(range(5)))
def test_the_order_of_the_settings_changes_nothing(seed: int, order: list[int]) -> None:
    ids, values = _ragged(seed)
    rows = [[0], [1], [2, 3, 4], [0, 1, 2, 3, 4]]
    straight = compare(question_sums(ids, values), rows, resamples=60)
    moved_sums = question_sums([ids[i] for i in order], [values[i] for i in order])
    moved = compare(moved_sums, [[order.index(i) for i in row] for row in rows], resamples=60)
    np.testing.assert_array_equal(moved.p_value, straight.p_value)
    for name in ("difference", "low", "high"):
        np.testing.assert_allclose(getattr(moved, name), getattr(straight, name), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_exchanging_the_models_mirrors_the_interval_and_keeps_the_p_value(seed: int) -> None:
    ids, values = _ragged(seed)
    rows = [[i] for i in range(5)]
    forth = compare(question_sums(ids, values), rows, resamples=80)
    back = compare(question_sums(ids, [-one for one in values]), rows, resamples=80)
    np.testing.assert_allclose(back.low, -forth.high, atol=1e-12)
    np.testing.assert_array_equal(back.p_value, forth.p_value)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_a_resample_averages_the_queries_of_the_questions_drawn(seed: int) -> None:
    ids, values = _ragged(seed)
    # One more setting asks every question that counts, so that all share some.
    counted = np.unique(np.concatenate([one[~np.isnan(v)] for one, v in zip(ids, values, strict=True)]))
    ids, values = [*ids, counted], [*values, np.arange(len(counted)) / 7]
    questions = counted
    rng = np.random.default_rng((seed, 0, 0))
    found = bootstrap_means(question_sums(ids, values), resamples=7, seed=seed)
    for draw, picks in enumerate(rng.integers(len(questions), size=(7, len(questions)))):
        for setting in range(6):
            drawn = [v for pick in picks for v in values[setting][ids[setting] == questions[pick]] if not np.isnan(v)]
            expected = np.mean(drawn) if drawn else np.nan
            np.testing.assert_allclose(found[draw, setting], expected, atol=1e-12)


def test_settings_that_share_no_question_are_resampled_each_by_itself() -> None:
    rng = np.random.default_rng(5)
    ids = [np.array([f"{x}/{i}" for i in range(30)]) for x in ("a", "b", "c")]
    values = [rng.normal(size=30) for _ in ids]
    ids, values = [*ids, ids[0][:9]], [*values, values[0][:9]]
    means = bootstrap_means(question_sums(ids, values), resamples=4000, seed=1)
    together = np.corrcoef(means.T)
    assert together[0, 3] > 0.3
    assert np.abs(together[[0, 0, 1, 3], [1, 2, 2, 1]]).max() < 0.06
    # Each draw of a setting has its 30 questions: the spread is that of a mean of 30, not of a random number of them.
    np.testing.assert_allclose(means.std(axis=0)[:3], [v.std() / 30**0.5 for v in values[:3]], rtol=0.05)


@pytest.mark.parametrize("alike", [4, 10**9])
def test_questions_alike_are_drawn_together_with_the_same_distribution(
    alike: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(significance, "_ALIKE", alike)
    values = np.repeat([-1.0, 0.0, 1.0], [20, 240, 40])
    found = _one_setting(values, resamples=40_000)
    exact = scipy.stats.binomtest(40, 60).pvalue  # the 240 zeros decide nothing
    assert found.p_value[0] == pytest.approx(exact, abs=4 * np.sqrt(exact / 40_000))
    spread = values.std() / len(values) ** 0.5
    assert (found.high[0] - found.low[0]) / (2 * 1.96 * spread) == pytest.approx(1, abs=0.05)


def test_the_bca_interval_is_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=25) ** 2 - 0.7
    one = question_sums([np.arange(25).astype(str)], [values])
    found = compare(one, [[0]], resamples=30_000, interval="bca")
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=30_000, method="BCa", rng=1).confidence_interval
    percentile = compare(one, [[0]], resamples=30_000)
    assert found.low[0] == pytest.approx(expected.low, abs=0.03 * (expected.high - expected.low))
    assert found.high[0] == pytest.approx(expected.high, abs=0.03 * (expected.high - expected.low))
    assert found.high[0] > percentile.high[0] + 0.05 * (expected.high - expected.low)


def test_the_bca_interval_of_no_difference_at_all_is_none() -> None:
    found = compare(question_sums([np.arange(9).astype(str)], [np.zeros(9)]), [[0]], resamples=50, interval="bca")
    assert (found.low[0], found.high[0]) == (0, 0)


@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_ten_thousand_resamples_of_152_settings_take_seconds(interval: Interval) -> None:
    rng = np.random.default_rng(0)
    sums = question_sums([np.arange(1190).astype(str)] * 152, list(rng.normal(size=(152, 1190))))
    started = time.process_time()
    compare(sums, [[setting] for setting in range(152)], interval=interval)
    assert time.process_time() - started < 20


def test_equal_seeds_give_equal_estimates() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert _one_setting(values, resamples=200, seed=4) == _one_setting(values, resamples=200, seed=4)
    assert _one_setting(values, resamples=200, seed=4).low != _one_setting(values, resamples=200, seed=5).low


def test_no_difference_at_all_is_no_evidence() -> None:
    found = _one_setting(np.zeros(20), resamples=50)
    assert (found.difference[0], found.low[0], found.high[0], found.p_value[0]) == (0, 0, 0, 1)


def test_a_setting_without_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="every setting a query"):
        compare(QuestionSums(np.ones((3, 2)), np.array([[1.0, 0], [1, 0], [1, 0]])), [[0], [1]])


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_is_scipys(p_values: list[float]) -> None:
    expected = scipy.stats.false_discovery_control(p_values, method="bh")
    np.testing.assert_allclose(benjamini_hochberg(np.array(p_values)), expected)


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=30), st.floats(0.001, 0.5))
def test_holm_rejects_what_stepping_down_by_hand_rejects(p_values: list[float], level: float) -> None:
    rejected: set[int] = set()
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] * (len(p_values) - step) > level:
            break
        rejected.add(index)
    adjusted = holm(np.array(p_values))
    assert {i for i, p in enumerate(adjusted) if p <= level} == rejected
    assert (adjusted >= p_values).all()
