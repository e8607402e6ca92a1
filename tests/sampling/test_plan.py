"""The plan draws kinds, data sets and languages in the proportions asked for."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybatch.sampling import KINDS, BatchSampler, Phase, SamplingConfig, ShareSchedule
from hybatch.sampling.config import Shape
from hybatch.sampling.keyed import derive_key, draws
from hybatch.sampling.plan import phase_ends, share_at
from tests.sampling.chi_square import chance_of_counts
from tests.sampling.corpora import FakeCorpus, fresh_folder, full_corpus, sampler_of
from tests.sampling.patience import PATIENT


def kinds_of(sampler: BatchSampler) -> np.ndarray:
    """[T] kind of every planned step."""
    return np.array([cell.kind for cell in sampler.cells])[sampler.plan.cells]


def nested_languages(sizes: dict[str, int], name: str = "fake") -> FakeCorpus:
    """The first sizes[l] examples are there in language l."""
    masks = [
        sum(1 << bit for bit, size in enumerate(sizes.values()) if row < size) for row in range(max(sizes.values()))
    ]
    return FakeCorpus(fresh_folder(), languages=list(sizes), question_mask=masks, passage_mask=masks, name=name)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.8])
def test_hybrid_draws_monolingual_batches_with_probability_alpha(alpha: float) -> None:
    sampler = sampler_of(full_corpus(100, ("de", "en")), alpha=alpha, batch_size=5, total_steps=20_000)
    mono = int(np.count_nonzero(kinds_of(sampler) == "x-x-mono"))
    assert chance_of_counts([mono, 20_000 - mono], [alpha, 1 - alpha]) > 1e-4


def test_kinds_of_successive_steps_are_independent() -> None:
    sampler = sampler_of(full_corpus(100, ("de", "en")), alpha=0.5, batch_size=5, total_steps=40_000)
    mono = (kinds_of(sampler) == "x-x-mono").astype(int)
    assert chance_of_counts(np.bincount(mono[::2] * 2 + mono[1::2], minlength=4)) > 1e-4


@pytest.mark.parametrize("shape", get_args(Shape))
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.9, 0.2)])
def test_a_schedule_goes_from_start_to_end_in_its_shape(shape: str, start: float, end: float) -> None:
    steps = 1001
    alpha = share_at(ShareSchedule(start=start, end=end, shape=shape), steps)
    x = np.arange(steps) / (steps - 1)
    weight = x if shape == "linear" else (1 - np.cos(np.pi * x)) / 2
    assert np.allclose(alpha, start + (end - start) * weight, rtol=0, atol=1e-14)
    assert (alpha[0], alpha[-1]) == (start, end)
    assert np.all(np.diff(alpha) * (end - start) >= 0)


def test_a_schedule_of_one_step_is_at_its_start() -> None:
    assert share_at(ShareSchedule(start=0.3, end=0.9), 1).tolist() == [0.3]


@pytest.mark.parametrize("shape", get_args(Shape))
def test_scheduled_alpha_gives_the_scheduled_proportions_in_every_tenth_of_the_run(shape: str) -> None:
    schedule = ShareSchedule(start=0.9, end=0.1, shape=shape)
    sampler = sampler_of(full_corpus(100, ("de", "en")), alpha=schedule, batch_size=5, total_steps=20_000)
    mono = (kinds_of(sampler) == "x-x-mono").reshape(10, -1)
    expected = share_at(schedule, 20_000).reshape(10, -1)
    for tenth in range(10):
        deviation = math.sqrt((expected[tenth] * (1 - expected[tenth])).sum())
        assert abs(mono[tenth].sum() - expected[tenth].sum()) < 4 * deviation


@PATIENT
@given(st.floats(0, 1), st.integers(1, 100))
def test_sequential_switches_once_at_the_right_step(share: float, total_steps: int) -> None:
    sampler = sampler_of(
        full_corpus(30, ("de", "en")), kind="sequential", share=share, batch_size=5, total_steps=total_steps
    )
    switch = math.floor(share * total_steps + 0.5)
    assert kinds_of(sampler).tolist() == ["x-x-mono"] * switch + ["x-y"] * (total_steps - switch)


def _mono_steps(share: float, total_steps: int) -> int:
    return phase_ends(SamplingConfig(kind="sequential", share=share), total_steps)[0][1]


def test_shares_that_binary_fractions_miss_still_switch_at_the_whole_step() -> None:
    assert _mono_steps(0.1, 30) == 3
    assert _mono_steps(0.7, 10) == 7
    assert _mono_steps(0.5, 5) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_one_kind_draws_nothing_else(kind: str) -> None:
    sampler = sampler_of(full_corpus(100, ("de", "en")), kind=kind, batch_size=5, total_steps=300)
    assert set(kinds_of(sampler)) == {kind}


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_data_sets_are_drawn_by_their_usable_ids_to_the_exponent(kind: str, exponent: float) -> None:
    corpora = [
        full_corpus(100, ("de", "en")),
        nested_languages({"de": 300, "en": 200}),
        full_corpus(150, ("de", "en")),
    ]
    sampler = sampler_of(*corpora, kind=kind, dataset_exponent=exponent, batch_size=5, total_steps=20_000)
    german_alone = KINDS[kind].match == "same" and not KINDS[kind].fixed_languages
    usable = [100, 300 if german_alone else 200, 150]
    drawn = np.bincount(np.array([cell.dataset for cell in sampler.cells])[sampler.plan.cells])
    assert chance_of_counts(drawn, np.array(usable) ** exponent) > 1e-4


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_languages_of_monolingual_batches_are_drawn_by_their_ids_to_the_exponent(exponent: float) -> None:
    sizes = {"de": 50, "en": 400, "th": 10}
    sampler = sampler_of(
        nested_languages(sizes), kind="x-x-mono", language_exponent=exponent, batch_size=5, total_steps=20_000
    )
    drawn = np.bincount(np.array([cell.language for cell in sampler.cells])[sampler.plan.cells])
    assert chance_of_counts(drawn, np.array(list(sizes.values())) ** exponent) > 1e-4


def test_language_and_kind_are_independent_of_the_data_set_s_position_in_the_list() -> None:
    corpora = [full_corpus(100, ("de", "en"), name="a"), full_corpus(100, ("de", "en"), name="b")]
    sampler = sampler_of(*corpora, kind="hybrid", batch_size=5, total_steps=20_000)
    drawn = np.bincount(sampler.plan.cells, minlength=len(sampler.cells))
    expected = [0.125 if cell.kind == "x-x-mono" else 0.25 for cell in sampler.cells]
    assert chance_of_counts(drawn, expected) > 1e-4


def test_positions_count_the_earlier_steps_of_the_same_cell() -> None:
    sampler = sampler_of(full_corpus(100, ("de", "en", "th")), kind="hybrid", batch_size=5, total_steps=500)
    seen: dict[int, int] = {}
    for cell, position in zip(sampler.plan.cells.tolist(), sampler.plan.positions.tolist(), strict=True):
        assert position == seen.get(cell, 0)
        seen[cell] = position + 1


def test_the_plan_of_a_fixed_alpha_does_not_change_when_the_run_is_made_longer() -> None:
    corpus = full_corpus(100, ("de", "en"))
    short, long = (sampler_of(corpus, batch_size=5, total_steps=steps) for steps in (100, 1000))
    assert np.array_equal(short.plan.cells, long.plan.cells[:100])
    assert np.array_equal(short.plan.positions, long.plan.positions[:100])


def test_a_mixture_of_the_two_default_kinds_is_what_alpha_is_short_for() -> None:
    corpus = full_corpus(100, ("de", "en"))
    for alpha in (0.0, 0.3, 0.5, 1.0):
        short = sampler_of(corpus, alpha=alpha, batch_size=5, total_steps=500)
        long = sampler_of(corpus, mixture={"x-y": 1 - alpha, "x-x-mono": alpha}, batch_size=5, total_steps=500)
        assert np.array_equal(short.plan.cells, long.plan.cells)


@pytest.mark.parametrize("kinds", [("x-x-mono", "x-y", "x-en"), ("en-x", "x-x")])
def test_the_kinds_of_a_mixture_come_in_their_shares(kinds: tuple[str, ...]) -> None:
    shares = dict(zip(kinds, (0.5, 0.3, 0.2) if len(kinds) == 3 else (0.9, 0.1), strict=True))
    sampler = sampler_of(full_corpus(100, ("de", "en")), mixture=shares, batch_size=5, total_steps=20_000)
    drawn = kinds_of(sampler)
    for kind, share in shares.items():
        assert abs((drawn == kind).sum() - share * 20_000) < 4 * math.sqrt(20_000 * share * (1 - share))
    assert set(drawn) == set(kinds)


@pytest.mark.parametrize("shape", get_args(Shape))
def test_a_scheduled_mixture_follows_its_shares_and_never_draws_a_kind_of_share_0(shape: str) -> None:
    mixture = {
        "x-x-mono": ShareSchedule(start=1, end=0, shape=shape),
        "x-y": 0,
        "x-en": ShareSchedule(start=0, end=1, shape=shape),
    }
    sampler = sampler_of(full_corpus(100, ("de", "en")), mixture=mixture, batch_size=5, total_steps=20_000)
    drawn = kinds_of(sampler)
    assert set(drawn) == {"x-x-mono", "x-en"}
    assert (drawn[0], drawn[-1]) == ("x-x-mono", "x-en")
    tenths = (drawn == "x-en").reshape(10, -1).mean(axis=1)
    expected = share_at(mixture["x-en"], 20_000).reshape(10, -1).mean(axis=1)
    assert np.abs(tenths - expected).max() < 0.06


def test_phases_follow_one_another_at_the_steps_that_their_shares_say() -> None:
    phases = [Phase(kind="x-y", share=0.25), Phase(kind="x-x-mono", share=0.5), Phase(kind="x-y", share=0.25)]
    corpus = full_corpus(100, ("de", "en"))
    sampler = sampler_of(corpus, kind="sequential", phases=phases, batch_size=5, total_steps=40)
    assert kinds_of(sampler).tolist() == ["x-y"] * 10 + ["x-x-mono"] * 20 + ["x-y"] * 10
    assert [cell.kind for cell in sampler.cells].count("x-y") == 1


SIXTEENTHS = st.lists(st.tuples(st.sampled_from(list(KINDS)), st.integers(0, 16)), min_size=1, max_size=6)
"""Kinds with weights, of which `_sixteenths` makes shares that binary fractions hold exactly."""


def _sixteenths(weighted: list[tuple[str, int]]) -> list[tuple[str, float]]:
    """The weights cut off at a sum of 16, the last filled up to it, in sixteenths."""
    cut, left = [], 16
    for kind, weight in weighted:
        cut.append((kind, min(weight, left)))
        left -= cut[-1][1]
    return [(kind, (weight + left * (place == len(cut) - 1)) / 16) for place, (kind, weight) in enumerate(cut)]


@PATIENT
@given(SIXTEENTHS, st.integers(1, 60))
def test_phases_end_where_exact_arithmetic_says(weighted: list[tuple[str, int]], total_steps: int) -> None:
    shares = _sixteenths(weighted)
    expected: list[str] = []
    reached = Fraction(0)
    for kind, share in shares:
        reached += Fraction(share)
        expected += [kind] * (math.floor(reached * total_steps + Fraction(1, 2)) - len(expected))
    sampler = sampler_of(
        full_corpus(30, ("de", "en")),
        kind="sequential",
        phases=[Phase(kind=kind, share=share) for kind, share in shares],
        batch_size=5,
        total_steps=total_steps,
    )
    assert kinds_of(sampler).tolist() == expected
    assert {cell.kind for cell in sampler.cells} == set(expected)


@PATIENT
@given(SIXTEENTHS, SIXTEENTHS, st.sampled_from(get_args(Shape)), st.integers(0, 1000), st.integers(1, 80))
def test_a_mixture_draws_at_each_step_the_kind_on_whose_share_the_step_s_number_falls(
    first: list[tuple[str, int]], last: list[tuple[str, int]], shape: str, seed: int, total_steps: int
) -> None:
    starts, ends = (dict.fromkeys(KINDS, 0.0) | _summed(_sixteenths(weighted)) for weighted in (first, last))
    mixture = {kind: ShareSchedule(start=starts[kind], end=ends[kind], shape=shape) for kind in KINDS}
    sampler = sampler_of(
        full_corpus(30, ("de", "en")), mixture=mixture, seed=seed, batch_size=5, total_steps=total_steps
    )
    shares = {kind: share_at(schedule, total_steps) for kind, schedule in sorted(mixture.items())}
    numbers = draws(derive_key("kind", seed), np.arange(total_steps))
    for step, kind in enumerate(kinds_of(sampler).tolist()):
        assert shares[kind][step] > 0
        below = sum(share[step] for name, share in shares.items() if name < kind)
        uniform = int(numbers[step]) / 2**64
        assert below - 1e-12 <= uniform < below + shares[kind][step] + 1e-12
    planned = {kind for kind, share in shares.items() if share.max() > 0}
    assert {cell.kind for cell in sampler.cells} == planned


def _summed(shares: list[tuple[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for kind, share in shares:
        total[kind] = total.get(kind, 0.0) + share
    return total


@pytest.mark.parametrize("shares", [{"x-y": 0.7, "x-x-mono": 0.3, "x-x": 0}, {"x-y": 1, "en-en": 0}, {"en-en": 1}])
def test_a_kind_of_share_0_needs_no_cell_and_gets_no_step(shares: dict[str, float]) -> None:
    sampler = sampler_of(full_corpus(100, ("de", "en")), mixture=shares, batch_size=5, total_steps=2000)
    assert (
        {cell.kind for cell in sampler.cells} == set(kinds_of(sampler)) == {k for k, share in shares.items() if share}
    )


def test_shares_that_are_rounded_to_six_digits_sum_to_one() -> None:
    shares = {"x-y": 0.333333, "x-x": 0.333333, "x-en": 0.333333}
    sampler = sampler_of(full_corpus(100, ("de", "en")), mixture=shares, batch_size=5, total_steps=3000)
    assert chance_of_counts(list(Counter(kinds_of(sampler).tolist()).values())) > 1e-4
    phases = [Phase(kind=kind, share=share) for kind, share in shares.items()]
    sampler = sampler_of(
        full_corpus(100, ("de", "en")), kind="sequential", phases=phases, batch_size=5, total_steps=3000
    )
    assert Counter(kinds_of(sampler).tolist()) == dict.fromkeys(shares, 1000)


@pytest.mark.parametrize("shape", get_args(Shape))
def test_a_scheduled_mixture_of_the_two_default_kinds_is_what_a_scheduled_alpha_is_short_for(shape: str) -> None:
    corpus = full_corpus(100, ("de", "en"))
    alpha, rest = ShareSchedule(start=1, end=0, shape=shape), ShareSchedule(start=0, end=1, shape=shape)
    short = sampler_of(corpus, alpha=alpha, batch_size=5, total_steps=5000)
    long = sampler_of(corpus, mixture={"x-y": rest, "x-x-mono": alpha}, batch_size=5, total_steps=5000)
    assert np.array_equal(short.plan.cells, long.plan.cells)
