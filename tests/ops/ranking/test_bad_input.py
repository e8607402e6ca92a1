"""What the ranking ops refuse, and how they name it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hybatch.ops import RankCounter, rank_counts
from tests.ops.conftest import Place
from tests.ops.ranking.cases import Case, random_case

CASE = random_case(1, queries=20, candidates=50, width=8, groups=3, integers=True, most_positives=3)
NUM_POSITIVES = len(CASE.positives)


def _with(tensor: torch.Tensor, place: int | tuple[int, int], value: float) -> torch.Tensor:
    changed = tensor.clone()
    changed[place] = value
    return changed


WRONG = [
    ("queries", CASE.queries.double(), TypeError, "queries: expected float32, bfloat16 or float16, got torch.float64"),
    ("queries", CASE.queries[0], ValueError, r"queries: expected shape \[rows, width\], got \[8\]"),
    ("candidates", CASE.candidates[:, :7], ValueError, "candidates: rows have width 7, queries have width 8"),
    ("candidates", CASE.candidates.long(), TypeError, "candidates: expected float32"),
    ("groups", CASE.groups.float(), TypeError, "groups: expected integers, got torch.float32"),
    ("groups", CASE.groups[1:], ValueError, "groups: expected 50 entries, got 49"),
    ("groups", CASE.groups[:, None], ValueError, "groups: expected one dimension"),
    ("groups", _with(CASE.groups, 7, 3), ValueError, r"groups: entry 7 is 3, outside \[0, 3\)"),
    ("groups", _with(CASE.groups, 7, -1), ValueError, r"groups: entry 7 is -1, outside \[0, 3\)"),
    ("groups", _with(CASE.groups, 7, 2**32), ValueError, r"groups: entry 7 is 4294967296, outside \[0, 3\)"),
    ("positives", CASE.positives.double(), TypeError, "positives: expected integers"),
    ("positives", _with(CASE.positives, 3, 50), ValueError, r"positives: entry 3 is 50, outside \[0, 50\)"),
    ("positives", _with(CASE.positives, 3, -1), ValueError, r"positives: entry 3 is -1, outside \[0, 50\)"),
    ("positives", CASE.positives[1:], ValueError, "positive_offsets: must run from 0 to the number of positives"),
    ("offsets", CASE.offsets[1:], ValueError, "positive_offsets: expected 21 entries, got 20"),
    ("offsets", _with(CASE.offsets, 0, 1), ValueError, "positive_offsets: must "),
    ("offsets", _with(CASE.offsets, 4, NUM_POSITIVES), ValueError, "positive_offsets: must not descend, but entry 4"),
    ("num_groups", -1, ValueError, "num_groups: expected 0 or more"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), WRONG)
def test_a_wrong_argument_is_named(
    place: Place, name: str, value: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dataclasses.replace(CASE, **{name: value}).count(place)


def test_of_several_faults_the_first_argument_checked_is_named(place: Place) -> None:
    is_positive = torch.zeros(50, dtype=torch.bool).index_fill(0, CASE.positives, True)
    bad_positive, bad_other = (
        _with(CASE.candidates, (int(rows.nonzero()[0]), 5), torch.nan) for rows in (is_positive, ~is_positive)
    )
    faults: list[tuple[str, dict[str, object]]] = [
        ("positives: entry 3", {"positives": _with(CASE.positives, 3, 50)}),
        ("positive_offsets: must", {"offsets": _with(CASE.offsets, 0, 1)}),
        ("num_groups: expected 0 or more", {"num_groups": -1}),
        ("queries: row 2 ", {"queries": _with(CASE.queries, (2, 5), torch.inf)}),
        ("candidates: row", {"candidates": bad_positive}),
        ("groups: expected integers", {"groups": CASE.groups.float()}),
        ("groups: entry 7", {"groups": _with(CASE.groups, 7, 3)}),
        ("candidates: row", {"candidates": bad_other}),
    ]
    for number, (message, _) in enumerate(faults):
        changes = {name: value for _, later in reversed(faults[number:]) for name, value in later.items()}
        with pytest.raises((TypeError, ValueError), match=message):
            dataclasses.replace(CASE, **changes).count(place)
    for precision in ("fp64", "fp32"):
        with pytest.raises(ValueError, match="positives: entry 3"):
            dataclasses.replace(CASE, **faults[0][1]).count(place, precision=precision, best=-1)


def test_an_array_in_the_place_of_a_tensor_is_named() -> None:
    rest = (CASE.candidates, CASE.groups, CASE.positives, CASE.offsets, 3)
    with pytest.raises(TypeError, match="queries: expected a tensor, got ndarray"):
        rank_counts(CASE.queries.numpy(), *rest)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_values_that_are_not_finite_are_refused_with_their_row(place: Place, bad: float, precision: str) -> None:
    for row in (0, 13):
        queries = dataclasses.replace(CASE, queries=_with(CASE.queries, (row, 5), bad))
        with pytest.raises(ValueError, match=f"queries: row {row} holds a NaN or infinity"):
            queries.count(place, precision=precision)
    is_positive = torch.zeros(50, dtype=torch.bool).index_fill(0, CASE.positives, True)
    for row in (int((~is_positive).nonzero()[0]), int(is_positive.nonzero()[0])):
        candidates = dataclasses.replace(CASE, candidates=_with(CASE.candidates, (row, 5), bad))
        with pytest.raises(ValueError, match=f"candidates: row {row} holds a NaN or infinity"):
            candidates.count(place, precision=precision)


def test_a_bad_row_of_a_later_block_goes_by_its_candidate_number_and_voids_the_counter(place: Place) -> None:
    row = int((~torch.isin(torch.arange(50), CASE.positives)).nonzero()[-1])
    counter = CASE.counter(place)
    counter.add(CASE.candidates[:20], CASE.groups[:20], 0)
    with pytest.raises(ValueError, match=f"candidates: row {row} holds a NaN or infinity"):
        counter.add(_with(CASE.candidates, (row, 0), torch.nan)[20:], CASE.groups[20:], 20)
    with pytest.raises(ValueError, match="void"):
        counter.finish()


def test_bad_embeddings_of_positives_are_refused_at_once(place: Place) -> None:
    embeddings = _with(CASE.candidates[CASE.positives], (4, 0), torch.nan)
    with pytest.raises(ValueError, match="positive_embeddings: row 4 holds a NaN or infinity"):
        RankCounter(
            CASE.queries.to(place.device),
            embeddings.to(place.device),
            CASE.positives.to(place.device),
            CASE.offsets.to(place.device),
            3,
            backend=place.backend,
        )


def test_scores_that_overflow_float32_are_refused(place: Place) -> None:
    large = dataclasses.replace(CASE, queries=CASE.queries * 1e25, candidates=(CASE.candidates.abs() + 1) * 1e25)
    with pytest.raises(ValueError, match="overflow"):
        large.count(place)


def test_values_that_overflow_when_rounded_are_refused_with_their_row(place: Place) -> None:
    large = dataclasses.replace(CASE, candidates=_with(CASE.candidates, (9, 1), 7e4))
    with pytest.raises(ValueError, match="candidates: row 9 overflows when it is rounded to fp16"):
        large.count(place, precision="fp16")


def test_large_and_tiny_embeddings_that_do_not_overflow_are_counted(place: Place) -> None:
    for scale in (2.0**40, 2.0**-60):
        scaled = dataclasses.replace(CASE, queries=CASE.queries * scale, candidates=CASE.candidates * scale)
        for name in ("greater", "tied_before", "tied_after"):
            assert torch.equal(getattr(scaled.count(place), name), getattr(CASE.count(place), name))


def test_unknown_precision_and_backend_are_refused(place: Place) -> None:
    with pytest.raises(ValueError, match="precision: 'fp64' is none of fp32, tf32, bf16, fp16"):
        CASE.count(place, precision="fp64")
    with pytest.raises(ValueError, match="backend='gpu': no such backend"):
        rank_counts(CASE.queries, CASE.candidates, CASE.groups, CASE.positives, CASE.offsets, 3, backend="gpu")


def test_without_validation_a_bad_query_voids_only_its_own_positives(place: Place) -> None:
    row = int(CASE.owners[5])
    counts = dataclasses.replace(CASE, queries=_with(CASE.queries, (row, 5), torch.nan)).count(place, validate=False)
    good = CASE.count(place)
    own_P = torch.from_numpy(CASE.owners == row)
    for name in ("greater", "tied_before", "tied_after"):
        assert (getattr(counts, name).cpu()[own_P] == -1).all()
        assert torch.equal(getattr(counts, name).cpu()[~own_P], getattr(good, name).cpu()[~own_P])
    assert (counts.rank_overall().cpu()[own_P] == -1).all()
    assert (counts.rank_in_group(1).cpu()[own_P] == -1).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e38])
def test_without_validation_a_bad_candidate_voids_everything(place: Place, bad: float) -> None:
    row = int((~torch.isin(torch.arange(50), CASE.positives)).nonzero()[0])
    case: Case = dataclasses.replace(
        CASE, candidates=_with(CASE.candidates, row, bad), queries=CASE.queries.abs() + 1.0
    )
    counts = case.count(place, validate=False)
    assert (counts.greater == -1).all()
    assert (counts.rank_overall() == -1).all()


def test_without_validation_a_positive_that_was_not_met_voids_everything(place: Place) -> None:
    counter = CASE.counter(place, validate=False)
    counter.add(CASE.candidates[:20], CASE.groups[:20], 0)
    assert (counter.finish().greater == -1).all()
