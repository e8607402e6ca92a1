"""Codes, 8-bit whole numbers and signs in bits, rank as a stable sort of their int64 scores ranks them, everywhere.

Q queries, D candidates, H embedding width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybatch.ops import RankCounts
from tests.ops.conftest import PLACES, Place
from tests.ops.ranking.cases import Case, assert_counts_equal, assert_ranks_as_by_sorting, random_case

KINDS = ("int8", "bits")
SHAPES = {
    "seed": st.integers(0, 2**32 - 1),
    "queries": st.integers(0, 60),
    "candidates": st.integers(0, 80),
    "width": st.integers(1, 150),
    "groups": st.integers(1, 7),
    "contiguous": st.booleans(),
}
SETTINGS = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def coded_case(kind: str, *, largest: int = 127, **shape: int) -> tuple[Case, Case]:
    """The case as codes, and the same in whole numbers that have the same scores."""
    if kind == "int8":
        values = random_case(**shape, integers=True, largest=largest)  # type: ignore[arg-type]
        return _with_rows(values, lambda rows: rows.to(torch.int8)), values
    values = _with_rows(random_case(**shape, integers=False), _signs)  # type: ignore[arg-type]
    codes = _with_rows(values, lambda rows: torch.from_numpy(np.packbits(rows.numpy() > 0, axis=1)))
    # What pads the last byte is -1 in all rows.
    padding = -shape["width"] % 8
    return codes, _with_rows(values, lambda rows: torch.nn.functional.pad(rows, (0, padding), value=-1.0))


def _signs(rows: Tensor) -> Tensor:
    return torch.where(rows > 0, 1.0, -1.0)


def _with_rows(case: Case, change: Callable[[Tensor], Tensor]) -> Case:
    return dataclasses.replace(case, queries=change(case.queries), candidates=change(case.candidates))


@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(shape=st.fixed_dictionaries(SHAPES), largest=st.sampled_from([0, 1, 3, 127]))
def test_codes_rank_as_a_stable_sort_of_their_whole_scores(place: Place, kind: str, shape: dict, largest: int) -> None:
    codes, values = coded_case(kind, largest=largest, **shape)
    assert_ranks_as_by_sorting(codes.count(place), values)


@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(shape=st.fixed_dictionaries(SHAPES))
def test_every_instruction_set_counts_codes_alike(instruction_set: str, kind: str, shape: dict) -> None:
    codes, values = coded_case(kind, **shape)
    assert_ranks_as_by_sorting(codes.count(Place("cpu", "cpu")), values)


@pytest.mark.parametrize("kind", KINDS)
def test_the_most_negative_code_counts_too(kind: str, place: Place) -> None:
    generator = torch.Generator().manual_seed(0)
    case, _ = coded_case(kind, seed=2, queries=30, candidates=90, width=1024, groups=2, contiguous=True)
    if kind == "int8":
        case = _with_rows(case, lambda rows: torch.randint(0, 2, rows.shape, generator=generator).to(torch.int8) * -128)
        values = _with_rows(case, Tensor.float)
    else:
        case = _with_rows(case, lambda rows: torch.randint(0, 2, rows.shape, generator=generator).to(torch.uint8) * 255)
        values = _with_rows(case, lambda rows: _signs(rows.float()).repeat_interleave(8, dim=1))
    assert_ranks_as_by_sorting(case.count(place), values)


def _all(counts: RankCounts) -> list[Tensor]:
    assert counts.best is not None
    return [counts.greater, counts.tied_before, counts.tied_after, *counts.best.tensors()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_blocks_change_neither_counts_nor_best_candidates(
    place: Place, kind: str, threads: int, num_threads: Callable[[int], None]
) -> None:
    case, _ = coded_case(kind, largest=3, seed=5, queries=70, candidates=600, width=70, groups=4, contiguous=False)
    num_threads(threads)
    whole = case.count(place, best=10)
    expected = case.count(Place("torch", place.device), best=10)
    for mine, its in zip(_all(whole), _all(expected), strict=True):
        assert torch.equal(mine, its.to(mine.dtype))
    for size in (37, 64, 599):
        counter = case.counter(place, best=10)
        for first in reversed(range(0, len(case.candidates), size)):
            block = slice(first, first + size)
            counter.add(case.candidates[block].to(place.device), case.groups[block].to(place.device), first)
        for mine, its in zip(_all(counter.finish(600)), _all(whole), strict=True):
            assert torch.equal(mine, its)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_candidates_are_those_of_a_stable_sort(place: Place, kind: str) -> None:
    case, values = coded_case(kind, largest=2, seed=9, queries=40, candidates=300, width=24, groups=3, contiguous=True)
    best = case.count(place, best=20).best
    assert best is not None
    scores_QD = values.queries.numpy().astype(np.int64) @ values.candidates.numpy().astype(np.int64).T
    order_QK = np.argsort(-scores_QD, axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(best.index.cpu().numpy(), order_QK)
    np.testing.assert_array_equal(best.scores.cpu().numpy(), np.take_along_axis(scores_QD, order_QK, axis=1))


@pytest.mark.parametrize("width", [1025, 1600, 5000])
def test_wide_codes_count_exactly_as_long_as_a_float_holds_their_scores(place: Place, width: int) -> None:
    codes, values = coded_case(
        "int8", largest=40, seed=width, queries=30, candidates=200, width=width, groups=3, contiguous=True
    )
    assert_ranks_as_by_sorting(codes.count(place), values)


def test_codes_whose_scores_a_float_does_not_hold_are_refused(place: Place) -> None:
    case, _ = coded_case("int8", seed=1, queries=3, candidates=20, width=1100, groups=2, contiguous=True)
    loud = _with_rows(case, lambda rows: torch.full_like(rows, 127))
    with pytest.raises(ValueError, match=r"candidates 0 to 19: a score with a query may pass 2\^24"):
        loud.count(place)


@pytest.mark.parametrize("place", PLACES[:2], ids=str)
def test_codes_are_compared_with_codes_of_their_kind_and_are_never_rounded(place: Place) -> None:
    case, values = coded_case("int8", seed=1, queries=3, candidates=20, width=16, groups=2, contiguous=True)
    with pytest.raises(TypeError, match=r"candidates: torch.float32, but queries are torch.int8"):
        dataclasses.replace(case, candidates=values.candidates).count(place)
    with pytest.raises(TypeError, match=r"candidates: torch.uint8, but queries are torch.int8"):
        dataclasses.replace(case, candidates=case.candidates.view(torch.uint8)).count(place)
    with pytest.raises(ValueError, match="precision: bf16 rounds floating embeddings"):
        case.count(place, precision="bf16")


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_counter_holds_what_one_counter_counts(place: Place, kind: str) -> None:
    case, _ = coded_case(kind, largest=2, seed=6, queries=20, candidates=100, width=33, groups=3, contiguous=False)
    parts = [case.counter(place) for _ in range(2)]
    for counter, block in zip(parts, (slice(0, 37), slice(37, 100)), strict=True):
        counter.add(case.candidates[block].to(place.device), case.groups[block].to(place.device), block.start)
    parts[0].merge(parts[1])
    assert_counts_equal(parts[0].finish(100), case.count(place))
