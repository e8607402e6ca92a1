"""The best candidates that are kept beside the counts, against a stable sort of all candidates by the op's scores."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybatch.ops import BestCandidates
from hybatch.ops.backend import why_missing
from hybatch.ops.ranking import best as plain
from hybatch.ops.ranking.backend import ranking_ops
from tests.ops.conftest import Place
from tests.ops.instruction_sets import INSTRUCTION_SETS
from tests.ops.ranking.cases import Case, assert_counts_equal, random_case


def _case(seed: int, kind: str, *, queries: int = 6, candidates: int = 300, width: int = 24, groups: int = 4) -> Case:
    """Scores of kind "whole" tie massively; those of "close" differ by less than a product of matrices rounds."""
    case = random_case(
        seed, queries=queries, candidates=candidates, width=width, groups=groups, integers=kind == "whole"
    )
    if kind == "close":
        near = torch.nn.functional.normalize(1 + 1e-7 * case.candidates, dim=1)
        return dataclasses.replace(case, candidates=near)
    return case


def _by_sorting(case: Case, place: Place, places: int) -> tuple[np.ndarray, np.ndarray]:
    """(index [Q, K], group_index [Q, G]) from the op's scores of all pairs; -1 where there is none."""
    everything = torch.arange(len(case.candidates)).to(place.device)
    index_QK = np.full((len(case.queries), places), -1)
    index_QG = np.full((len(case.queries), case.num_groups), -1)
    groups_D = case.groups.numpy()
    for query, row in enumerate(case.queries):
        offsets = torch.tensor([0, len(case.candidates)]).to(place.device)
        pair = (row[None].to(place.device), case.candidates.to(place.device))
        scores_D = ranking_ops(place.backend).pair_scores(*pair, offsets, "fp32", everything).cpu().double().numpy()
        order_D = np.argsort(-scores_D, kind="stable")
        index_QK[query, : len(order_D)] = order_D[:places]
        for group in range(case.num_groups):
            index_QG[query, group] = next(iter(order_D[groups_D[order_D] == group]), -1)
    return index_QK, index_QG


def _assert_as_by_sorting(best: BestCandidates | None, case: Case, place: Place, places: int) -> None:
    assert best is not None
    index_QK, index_QG = _by_sorting(case, place, places)
    np.testing.assert_array_equal(best.index.cpu().numpy(), index_QK)
    np.testing.assert_array_equal(best.group_index.cpu().numpy(), index_QG)
    assert torch.equal(best.scores == -torch.inf, best.index < 0)
    assert torch.equal(best.group_scores == -torch.inf, best.group_index < 0)


def _assert_same(mine: BestCandidates | None, theirs: BestCandidates | None) -> None:
    assert mine is not None
    assert theirs is not None
    for tensor, other in zip(mine.tensors(), theirs.tensors(), strict=True):
        assert torch.equal(tensor, other)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["random", "whole", "close"]),
    candidates=st.integers(0, 900),
    places=st.integers(1, 130),
    cuts=st.lists(st.floats(0, 1), max_size=3),
    name=st.sampled_from(INSTRUCTION_SETS),
)
def test_blocks_in_any_order_keep_what_a_stable_sort_puts_first(
    place: Place, seed: int, kind: str, candidates: int, places: int, cuts: list[float], name: str
) -> None:
    case = _case(seed, kind, candidates=candidates)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBATCH_CPU_ISA", name)
        counter = case.counter(place, best=places)
        bounds = [0, *sorted(int(cut * candidates) for cut in cuts), candidates]
        blocks = list(itertools.pairwise(bounds))
        for number in np.random.default_rng(seed).permutation(len(blocks)):
            first, end = blocks[number]
            counter.add(case.candidates[first:end], case.groups[first:end], first)
        counts = counter.finish()
        _assert_as_by_sorting(counts.best, case, place, places)
        assert_counts_equal(counts, case.count(place))


@pytest.fixture(scope="module")
def wide() -> Case:
    """Several passes over H, several blocks per group, several panels of queries."""
    return random_case(7, queries=20, candidates=1600, width=400, groups=3, integers=False, contiguous=True)


@pytest.fixture(scope="module")
def wide_by_sorting(wide: Case) -> tuple[np.ndarray, np.ndarray]:
    return _by_sorting(wide, Place("cpu", "cpu"), 100)


@pytest.mark.skipif(why_missing("cpu") is not None, reason="no compiled ops")
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_neither_threads_nor_instruction_sets_change_what_is_kept(
    instruction_set: str,
    threads: int,
    num_threads: Callable[[int], None],
    wide: Case,
    wide_by_sorting: tuple[np.ndarray, np.ndarray],
) -> None:
    num_threads(threads)
    best = wide.count(Place("cpu", "cpu"), best=100).best
    assert best is not None
    np.testing.assert_array_equal(best.index.numpy(), wide_by_sorting[0])
    np.testing.assert_array_equal(best.group_index.numpy(), wide_by_sorting[1])


def test_copies_of_one_candidate_are_kept_in_the_order_of_their_numbers(place: Place) -> None:
    groups = torch.arange(600) // 200
    ones = torch.ones(600, 5)
    case = Case(ones[:2], ones, groups, torch.tensor([3, 599]), torch.arange(3), 3)
    for order in ([0, 300], [300, 0]):
        counter = case.counter(place, best=100)
        for first in order:
            counter.add(ones[first : first + 300], groups[first : first + 300], first)
        best = counter.finish().best
        assert best is not None
        assert best.index.tolist() == [list(range(100))] * 2
        assert best.group_index.tolist() == [[0, 200, 400]] * 2


def test_zeros_of_either_sign_tie(place: Place) -> None:
    candidates = torch.tensor([[0.0], [-0.0], [0.0]])
    case = Case(torch.ones(1, 1), candidates, torch.zeros(3).long(), torch.tensor([1]), torch.arange(2), 1)
    best = case.count(place, best=3).best
    assert best is not None
    assert best.index.tolist() == [[0, 1, 2]]


def test_merged_counters_keep_what_one_keeps(place: Place) -> None:
    case = _case(3, "whole")
    counters = [case.counter(place, best=40) for _ in range(3)]
    for number, counter in enumerate(counters):
        counter.add(case.candidates[100 * number :][:100], case.groups[100 * number :][:100], 100 * number)
    counters[2].merge(counters[0])
    counters[2].merge(counters[1])
    _assert_same(counters[2].finish().best, case.count(place, best=40).best)
    with pytest.raises(ValueError, match="other: best is 40, here 0"):
        case.counter(place).merge(counters[0])


def test_neither_the_size_of_a_tile_nor_what_training_allows_changes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(1, queries=50, candidates=700, width=16, groups=3, integers=False)
    whole = case.count(Place("torch", "cpu"), best=100).best
    monkeypatch.setattr(plain, "_TILE_SCORES", 700 * 7)
    torch.set_float32_matmul_precision("medium")
    try:
        _assert_same(case.count(Place("torch", "cpu"), best=100).best, whole)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_candidates_outside_every_group_are_not_kept(place: Place) -> None:
    case = _case(5, "random", candidates=40)
    outside = case.groups.clone()
    outside[::2] = 9
    counter = case.counter(place, best=30, validate=False)
    counter.add(case.candidates, outside, 0)
    best = counter.finish().best
    assert best is not None
    assert (best.index[:, :20] % 2 == 1).all()
    assert (best.index[:, 20:] == -1).all()


@pytest.mark.parametrize("options", [{"best": -1}, {"best": 5, "precision": "bf16"}])
def test_what_cannot_be_kept_is_refused(place: Place, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="best"):
        _case(6, "random").count(place, **options)


def test_a_value_that_is_not_finite_is_the_same_error_as_without(place: Place) -> None:
    case = _case(7, "random")
    spoilt: Tensor = case.candidates.clone()
    spoilt[200, 3] = torch.nan
    with pytest.raises(ValueError, match="candidates: row 200 holds a NaN"):
        case.counter(place, best=10).add(spoilt, case.groups, 0)


@pytest.mark.skipif(why_missing("cpu") is not None, reason="no compiled ops")
def test_the_op_names_a_bad_argument() -> None:
    case = _case(8, "random")
    thresholds = torch.zeros(len(case.positives))
    tables = [torch.zeros(len(case.positives), 4, dtype=torch.int32) for _ in range(3)]
    good = BestCandidates.none_yet(len(case.queries), 5, 4, thresholds)
    bad = {
        "best_scores must be": dataclasses.replace(good, scores=good.scores[:, :0]),
        "best_index has the wrong dtype": dataclasses.replace(good, index=good.index.int()),
        "group_scores must have size 4": dataclasses.replace(good, group_scores=good.group_scores[:, :3]),
        "group_index must have size 6": dataclasses.replace(good, group_index=good.group_index[:5]),
    }
    for message, best in bad.items():
        with pytest.raises(RuntimeError, match=message):
            torch.ops.hybatch.count_and_keep_(
                *tables, torch.zeros(4, dtype=torch.int64), *best.tensors(), case.queries, thresholds, case.positives,
                case.offsets, case.candidates, case.groups.int(), 0, "fp32",
            )  # fmt: skip
