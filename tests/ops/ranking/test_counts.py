"""What the counts must be, on every backend."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybatch.ops import rank_counts
from tests.ops.conftest import Place
from tests.ops.ranking.cases import Case, assert_counts_equal, assert_ranks_as_by_sorting, random_case

SHAPES = {
    "seed": st.integers(0, 2**32 - 1),
    "queries": st.integers(0, 60),
    "candidates": st.integers(0, 60),
    "width": st.integers(0, 60),
    "groups": st.integers(1, 7),
    "contiguous": st.booleans(),
}
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(shape=st.fixed_dictionaries(SHAPES), largest=st.integers(0, 3))
def test_integer_embeddings_rank_as_a_stable_sort_ranks_them(place: Place, shape: dict, largest: int) -> None:
    case = random_case(**shape, integers=True, largest=largest)
    assert_ranks_as_by_sorting(case.count(place), case)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("rescore", [False, True])
def test_integer_embeddings_rank_alike_in_every_precision(place: Place, precision: str, rescore: bool) -> None:
    case = random_case(3, queries=40, candidates=70, width=24, groups=5, integers=True)
    assert_ranks_as_by_sorting(case.count(place, precision=precision, rescore=rescore), case)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@SETTINGS
@given(shape=st.fixed_dictionaries(SHAPES))
def test_sixteen_bit_embeddings_count_as_the_float32_values_they_are(
    place: Place, dtype: torch.dtype, shape: dict
) -> None:
    case = random_case(**shape, integers=False)
    short = Case(case.queries.to(dtype), case.candidates.to(dtype), *_rest(case))
    long = Case(short.queries.float(), short.candidates.float(), *_rest(case))
    mixed = Case(short.queries, long.candidates, *_rest(case))
    assert_counts_equal(short.count(place), long.count(place))
    assert_counts_equal(mixed.count(place), long.count(place))


def test_a_lower_precision_counts_what_rounding_the_embeddings_first_would(place: Place) -> None:
    case = random_case(11, queries=30, candidates=200, width=48, groups=3, integers=False)
    rounded = Case(case.queries.bfloat16(), case.candidates.bfloat16(), *_rest(case))
    if place.backend == "cuda":
        pytest.skip("tensor cores add in an order of their own")
    assert_counts_equal(case.count(place, precision="bf16"), rounded.count(place))
    assert_counts_equal(case.count(place, precision="bf16", rescore=True), case.count(place))


def test_counts_stray_from_float64_only_within_the_rounding_bound_of_float32(place: Place) -> None:
    case = random_case(5, queries=50, candidates=3000, width=128, groups=4, integers=False)
    q, c = case.queries.double().numpy(), case.candidates.double().numpy()
    scores_QD = q @ c.T
    bound_Q = 2 * q.shape[1] * 2.0**-24 * np.linalg.norm(q, axis=1) * np.linalg.norm(c, axis=1).max()
    counts = case.count(place)
    greater = counts.greater_overall().cpu().numpy()
    not_below = greater + counts.tied_overall().cpu().numpy()
    for p, (owner, positive) in enumerate(zip(case.owners, case.positives.tolist(), strict=True)):
        others = np.delete(scores_QD[owner], positive)
        threshold = scores_QD[owner, positive]
        assert (others > threshold + bound_Q[owner]).sum() <= greater[p]
        assert not_below[p] <= (others >= threshold - bound_Q[owner]).sum()


def test_the_torch_backend_ranks_as_float64_does() -> None:
    case = random_case(5, queries=50, candidates=3000, width=128, groups=4, integers=False)
    assert_ranks_as_by_sorting(case.count(Place("torch", "cpu")), case)


@pytest.mark.parametrize("width", [1, 7, 33, 100, 384, 768])
def test_permuting_and_padding_the_candidates_changes_no_count(place: Place, width: int) -> None:
    case = random_case(width, queries=37, candidates=301, width=width, groups=3, integers=False)
    plain = case.count(place)
    generator = torch.Generator().manual_seed(width)
    order_D = torch.randperm(len(case.candidates), generator=generator)
    place_D = order_D.argsort()
    shuffled = Case(
        case.queries,
        case.candidates[order_D],
        case.groups[order_D],
        place_D[case.positives],
        case.offsets,
        case.num_groups,
    )
    permuted = shuffled.count(place)
    assert torch.equal(permuted.greater, plain.greater)
    assert torch.equal(permuted.tied_before + permuted.tied_after, plain.tied_before + plain.tied_after)
    padding = torch.zeros(77, width)
    padded = Case(
        case.queries,
        torch.cat([case.candidates, padding]),
        torch.cat([case.groups, torch.full((77,), 3)]),
        case.positives,
        case.offsets,
        4,
    )
    counts = padded.count(place)
    for name in ("greater", "tied_before", "tied_after"):
        assert torch.equal(getattr(counts, name)[:, :3], getattr(plain, name)), name


@pytest.mark.parametrize("width", [1, 33, 768])
def test_each_query_alone_counts_as_it_does_among_others(place: Place, width: int) -> None:
    case = random_case(width, queries=21, candidates=150, width=width, groups=3, integers=False)
    together = case.count(place)
    for q in range(len(case.queries)):
        first, end = case.offsets[q : q + 2].tolist()
        alone = Case(
            case.queries[q : q + 1],
            case.candidates,
            case.groups,
            case.positives[first:end],
            torch.tensor([0, end - first]),
            case.num_groups,
        ).count(place)
        for name in ("greater", "tied_before", "tied_after"):
            assert torch.equal(getattr(alone, name), getattr(together, name)[first:end]), (q, name)


@pytest.mark.parametrize("integers", [True, False])
def test_counts_do_not_depend_on_the_number_of_threads(place: Place, integers: bool) -> None:
    case = random_case(8, queries=300, candidates=2500, width=65, groups=4, integers=integers)
    before = torch.get_num_threads()
    try:
        counts = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            counts.append(case.count(place))
    finally:
        torch.set_num_threads(before)
    for other in counts[1:]:
        assert_counts_equal(counts[0], other)


def test_copies_of_a_positive_tie_with_it_wherever_they_stand(place: Place) -> None:
    case = random_case(2, queries=9, candidates=40, width=96, groups=1, integers=False, most_positives=1)
    copies = 90
    pool = torch.cat([case.candidates] * copies)
    middle = case.positives + 40 * (copies // 2)
    counts = Case(case.queries, pool, torch.zeros(len(pool), dtype=torch.long), middle, case.offsets, 1).count(place)
    once = case.count(place)
    assert torch.equal(counts.greater, once.greater * copies)
    assert counts.tied_before.unique().tolist() == [copies // 2]
    assert counts.tied_after.unique().tolist() == [copies - copies // 2 - 1]


def test_negative_scores_are_counted_as_such(place: Place) -> None:
    """Lanes beyond the last candidate score 0, which beats every threshold here."""
    queries = -torch.ones(3, 5)
    candidates = torch.arange(1.0, 68.0)[:, None].expand(-1, 5).contiguous()
    positives, offsets = torch.tensor([66, 0, 33]), torch.tensor([0, 1, 2, 3])
    counts = Case(queries, candidates, torch.arange(67) % 2, positives, offsets, 2).count(place)
    assert counts.rank_overall().tolist() == [67, 1, 34]
    assert counts.greater.tolist() == [[33, 33], [0, 0], [17, 16]]


def test_a_query_may_own_many_positives_the_same_one_twice_among_them(place: Place) -> None:
    case = random_case(4, queries=5, candidates=900, width=6, groups=3, integers=True, most_positives=700)
    assert_ranks_as_by_sorting(case.count(place), case)


@pytest.mark.parametrize("contiguous", [True, False])
def test_a_problem_of_many_tiles_ranks_as_a_stable_sort_ranks_it(place: Place, contiguous: bool) -> None:
    shape = {"queries": 600, "candidates": 4500, "width": 6, "groups": 5}
    case = random_case(9, **shape, integers=True, largest=9, contiguous=contiguous)
    assert_ranks_as_by_sorting(case.count(place), case)


def test_ranks_in_a_group_of_each_positive_s_own(place: Place) -> None:
    case = random_case(6, queries=20, candidates=50, width=9, groups=3, integers=True)
    counts = case.count(place)
    own_P = case.groups[case.positives].to(place.device)
    expected = [int(counts.rank_in_group(int(group))[p]) for p, group in enumerate(own_P)]
    assert counts.rank_in_group(own_P).tolist() == expected


@pytest.mark.parametrize("integer", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_any_integer_dtype_and_any_strides_give_the_same_counts(place: Place, integer: torch.dtype) -> None:
    case = random_case(7, queries=20, candidates=50, width=9, groups=3, integers=True)
    strange = Case(
        case.queries.T.contiguous().T,
        torch.cat([case.candidates, case.candidates], 1)[:, :9],
        case.groups.repeat_interleave(2)[::2].to(integer),
        case.positives.to(integer),
        case.offsets.to(integer),
        3,
    )
    assert_counts_equal(strange.count(place), case.count(place))


def test_counts_are_int32_of_one_row_per_positive_and_one_column_per_group(place: Place) -> None:
    case = random_case(7, queries=20, candidates=50, width=9, groups=3, integers=True)
    counts = case.count(place)
    for table in (counts.greater, counts.tied_before, counts.tied_after):
        assert (table.dtype, tuple(table.shape)) == (torch.int32, (len(case.positives), 3))
    assert counts.backend == place.backend


def test_inputs_that_require_gradients_are_taken_and_nothing_is_recorded(place: Place) -> None:
    case = random_case(7, queries=20, candidates=50, width=9, groups=3, integers=True)
    plain = case.count(place)
    learned = Case(case.queries.requires_grad_(), case.candidates.requires_grad_(), *_rest(case))
    assert_counts_equal(learned.count(place), plain)
    assert not learned.count(place).greater.requires_grad


def test_validation_off_gives_the_same_counts(place: Place) -> None:
    for seed, integers in itertools.product(range(4), (True, False)):
        case = random_case(seed, queries=40, candidates=60, width=17, groups=3, integers=integers)
        assert_counts_equal(case.count(place, validate=False), case.count(place))


def test_auto_takes_what_environment_variable_and_argument_say(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(7, queries=20, candidates=50, width=9, groups=3, integers=True)
    arguments = (case.queries, case.candidates, case.groups, case.positives, case.offsets, 3)
    monkeypatch.setenv("HYBATCH_BACKEND", "torch")
    assert rank_counts(*arguments).backend == "torch"


def _rest(case: Case) -> tuple:
    return case.groups, case.positives, case.offsets, case.num_groups
