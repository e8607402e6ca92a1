"""Scores whose bits depend on the two rows alone, and are as close to the true ones as is claimed."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.ops.ranking.fixed_point import score_all, score_pairs, split_rows, truncation
from hybatch.ops.ranking.torch_backend import count_above_, pair_scores
from tests.ops.conftest import Place
from tests.ops.ranking.cases import random_case

WIDTHS = st.sampled_from([1, 2, 3, 8, 31, 64, 65, 257, 768])


def _rows(seed: int, rows: int, width: int, spread: float) -> torch.Tensor:
    """Float32 rows whose magnitudes lie within a factor of e^(some spread) of each other."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    return (values * torch.exp(spread * torch.randn(rows, width, generator=generator))).float()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), width=WIDTHS, spread=st.sampled_from([0.0, 1.0, 8.0]))
def test_the_product_of_parts_is_exact(seed: int, width: int, spread: float) -> None:
    """The oracle adds fractions, which never round."""
    q, c = split_rows(_rows(seed, 2, width, spread)), split_rows(_rows(seed + 1, 2, width, spread))

    def dot(a: torch.Tensor, b: torch.Tensor) -> Fraction:
        return sum((Fraction(x) * Fraction(y) for x, y in zip(a.tolist(), b.tolist(), strict=True)), Fraction())

    scores = score_all(q, c)
    for i in range(2):
        for j in range(2):
            exact = dot(q.high[i], c.high[j])
            assert Fraction(float(q.high[i] @ c.high[j])) == exact
            exact += dot(q.low[i], c.high[j]) if q.low is not None else 0
            exact += dot(q.high[i], c.low[j]) if c.low is not None else 0
            assert float(scores[i, j]) == float(exact)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), width=WIDTHS, spread=st.sampled_from([0.0, 1.0, 8.0]))
def test_scores_are_far_closer_to_the_truth_than_float32_need_be(seed: int, width: int, spread: float) -> None:
    q, c = _rows(seed, 3, width, spread), _rows(seed + 1, 3, width, spread)
    parts = split_rows(q), split_rows(c)
    scores = score_all(*parts)
    bits = (53 - (width - 1).bit_length()) // 2
    largest = q.double().abs().amax(1)[:, None] * c.double().abs().amax(1)
    rounding_of_float64 = width * 2.0**-52 * largest
    assert (
        (scores - q.double() @ c.double().T).abs() <= width * 2.0 ** (2 - 2 * bits) * largest + rounding_of_float64
    ).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), width=WIDTHS, spread=st.sampled_from([0.0, 1.0, 8.0]))
def test_what_a_score_leaves_out_is_within_the_bound(seed: int, width: int, spread: float) -> None:
    q, c = _rows(seed, 1, width, spread), _rows(seed + 1, 1, width, spread)
    true = sum((Fraction(x) * Fraction(y) for x, y in zip(q[0].tolist(), c[0].tolist(), strict=True)), Fraction())
    left_out = abs(Fraction(float(score_pairs(split_rows(q), split_rows(c))[0])) - true)
    assert left_out <= truncation(width) * Fraction(float(q.double().norm()) * float(c.double().norm()) * (1 + 2**-40))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("width", [1, 31, 100, 257, 768])
def test_a_score_keeps_its_bits_in_every_block_shape_and_with_any_number_of_threads(width: int, threads: int) -> None:
    q, c = _rows(1, 67, width, 1.0), _rows(2, 131, width, 1.0)
    parts = split_rows(q), split_rows(c)
    whole = score_all(*parts)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for rows, columns in [(1, 1), (1, 131), (67, 1), (7, 13), (64, 128), (33, 60)]:
            some = split_rows(q[:rows]), split_rows(c[-columns:])
            assert torch.equal(score_all(*some), whole[:rows, -columns:])
        pairs = score_pairs(split_rows(q), split_rows(c[:67]))
        assert torch.equal(pairs, whole[:, :67].diagonal())
    finally:
        torch.set_num_threads(before)


def test_rows_that_fit_have_no_low_part() -> None:
    assert split_rows(torch.randint(-1000, 1000, (5, 64)).float()).low is None
    assert split_rows(torch.zeros(3, 4)).low is None
    assert split_rows(torch.zeros(3, 0)).low is None
    assert split_rows(torch.randn(5, 64)).low is not None


def test_a_row_that_is_not_finite_disturbs_no_other() -> None:
    rows = _rows(1, 3, 8, 0.0)
    spoilt = rows.clone()
    spoilt[1, 2] = torch.inf
    spoilt[1, 3] = torch.nan
    assert torch.equal(split_rows(spoilt).high[[0, 2]], split_rows(rows).high[[0, 2]])
    assert not split_rows(spoilt).high[1].isfinite().all()


@pytest.mark.parametrize("tile", [(1, 1), (3, 64), (256, 2048)])
@pytest.mark.parametrize("per_close", [0, 10**9], ids=["pair by pair", "whole tile"])
def test_tile_shapes_and_the_way_close_scores_are_settled_change_no_count(
    monkeypatch: pytest.MonkeyPatch, tile: tuple[int, int], per_close: int
) -> None:
    case = random_case(3, queries=20, candidates=80, width=40, groups=3, integers=False)
    doubled = torch.cat([case.candidates, case.candidates])
    groups = torch.cat([case.groups, case.groups]).int()

    def tables() -> list[torch.Tensor]:
        counts = [torch.zeros(len(case.positives), 3, dtype=torch.int32) for _ in range(3)]
        status = torch.zeros(4, dtype=torch.int64)
        thresholds = pair_scores(case.queries, doubled[case.positives], case.offsets, "fp32")
        rest = (case.queries, thresholds, case.positives, case.offsets, doubled, groups, 0, "fp32")
        count_above_(*counts, status, *rest)
        return [*counts, status]

    expected = tables()
    monkeypatch.setattr("hybatch.ops.ranking.torch_backend._CPU_TILE", tile)
    monkeypatch.setattr("hybatch.ops.ranking.torch_backend._TILE_PER_CLOSE_SCORES", per_close)
    for table, right in zip(tables(), expected, strict=True):
        assert torch.equal(table, right)
    assert expected[3].tolist() == [len(case.positives), 0, 0, 0]


def test_a_group_out_of_range_is_not_counted_but_may_be_a_self_hit() -> None:
    case = random_case(3, queries=20, candidates=80, width=4, groups=3, integers=True)
    counts = [torch.zeros(len(case.positives), 3, dtype=torch.int32) for _ in range(3)]
    status = torch.zeros(4, dtype=torch.int64)
    thresholds = pair_scores(case.queries, case.candidates[case.positives], case.offsets, "fp32")
    groups = case.groups.int().masked_fill(case.groups == 1, -1)
    rest = (case.queries, thresholds, case.positives, case.offsets, case.candidates, groups, 0, "fp32")
    count_above_(*counts, status, *rest)
    whole = case.count(Place("torch", "cpu"))
    for table, right in zip(counts, (whole.greater, whole.tied_before, whole.tied_after), strict=True):
        assert torch.equal(table, right * torch.tensor([1, 0, 1], dtype=torch.int32))
    assert status.tolist() == [len(case.positives), 0, 0, 0]
