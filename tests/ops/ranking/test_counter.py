"""`RankCounter`: however the candidates are cut and shared out, the counts are those of one pass."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybatch.ops import RankCounter, RankCounts
from hybatch.ops.ranking import best
from tests.ops.conftest import Place
from tests.ops.ranking.cases import Case, assert_counts_equal, random_case
from tests.processes import run_processes

KEPT = 9
"""Best candidates of the counters that processes share out."""


def _cuts(case: Case, generator: np.random.Generator, pieces: int) -> list[tuple[int, int]]:
    """The candidates in `pieces` ranges, some empty, in random order."""
    inner = np.sort(generator.integers(0, len(case.candidates) + 1, pieces - 1)).tolist()
    bounds = [0, *inner, len(case.candidates)]
    ranges = list(itertools.pairwise(bounds))
    return [ranges[i] for i in generator.permutation(pieces)]


def _add(counter: RankCounter, case: Case, first: int, end: int) -> None:
    counter.add(case.candidates[first:end], case.groups[first:end], first)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60)),
    pieces=st.integers(1, 6),
    integers=st.booleans(),
)
def test_blocks_in_any_order_count_as_one_pass(
    place: Place, seed: int, sizes: tuple[int, int, int], pieces: int, integers: bool
) -> None:
    queries, candidates, width = sizes
    case = random_case(seed, queries=queries, candidates=candidates, width=width, groups=3, integers=integers)
    counter = case.counter(place)
    for first, end in _cuts(case, np.random.default_rng(seed), pieces):
        _add(counter, case, first, end)
    assert_counts_equal(counter.finish(), case.count(place))


@pytest.mark.parametrize("integers", [True, False])
def test_merged_counters_count_as_one(place: Place, integers: bool) -> None:
    case = random_case(1, queries=30, candidates=101, width=33, groups=3, integers=integers)
    counters = [case.counter(place) for _ in range(3)]
    for number, (first, end) in enumerate(_cuts(case, np.random.default_rng(1), 7)):
        _add(counters[number % 3], case, first, end)
    total = counters[0]
    for other in counters[1:]:
        total.merge(other)
    assert_counts_equal(total.finish(), case.count(place))


def _share_of(case: Case, part: int, parts: int) -> RankCounter:
    """A counter that has counted one of `parts` contiguous shares, in blocks of 7."""
    counter = case.counter(Place("torch", "cpu"), best=KEPT)
    first, end = (len(case.candidates) * number // parts for number in (part, part + 1))
    for start in range(first, end, 7):
        _add(counter, case, start, min(start + 7, end))
    return counter


def _refusal(counter: RankCounter) -> str:
    try:
        counter.all_reduce()
    except ValueError as error:
        return str(error)
    return "none"


def _reduce_well_and_badly(case: Case, other: Case) -> tuple[RankCounts, dict[str, str]]:
    """The counts of this process after summing, and what it is told where the processes do not fit together."""
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    counter = _share_of(case, rank, world_size)
    overlapping = _share_of(case, 0, world_size - rank)
    refusals = {"overlap": _refusal(overlapping)}
    refusals["positives"] = _refusal(_share_of([case, other][rank], rank, world_size))
    refusals["sizes"] = _refusal([case, other][rank].counter(Place("torch", "cpu")))
    lacking = case.counter(Place("torch", "cpu"))
    refusals["best"] = _refusal([lacking, counter][rank])
    if rank == 0:
        _add(lacking, case, 0, 50)
    lacking.all_reduce()
    with pytest.raises(ValueError) as caught:
        lacking.finish(len(case.candidates))
    refusals["lacking"] = str(caught.value)
    best._QUERIES_PER_MESSAGE = 7  # in this process of a test
    counter.all_reduce()
    refusals["again"] = _refusal(counter)
    return counter.finish(len(case.candidates)), refusals


def test_processes_sum_to_one_pass_and_all_refuse_shares_that_do_not_fit_together() -> None:
    case = random_case(2, queries=30, candidates=101, width=33, groups=3, integers=False)
    other = random_case(3, queries=30, candidates=101, width=33, groups=3, integers=False)
    one_pass = case.count(Place("torch", "cpu"), best=KEPT)
    assert one_pass.best is not None
    for rank, (counts, refusals) in enumerate(run_processes(_reduce_well_and_badly, 2, case, other)):
        assert_counts_equal(counts, one_pass)
        assert counts.best is not None
        assert all(map(torch.equal, counts.best.tensors(), one_pass.best.tensors()))
        assert "overlap candidates" in refusals["overlap"]
        assert f"best is {[KEPT, 0][rank]}, here {[0, KEPT][rank]}" in refusals["best"]
        assert "overlap candidates" in refusals["again"]
        assert f"process {1 - rank}: counts for other queries or positives" in refusals["positives"]
        assert f"process {1 - rank}: counts for other queries or positives" in refusals["sizes"]
        assert "candidates 50 to 100 of 101 are in no block" in refusals["lacking"]


def test_missing_and_surplus_candidates_are_named_when_the_total_is_known(place: Place) -> None:
    case = random_case(12, queries=9, candidates=60, width=8, groups=3, integers=True)
    case = Case(case.queries, case.candidates, case.groups, case.positives * 0 + 25, case.offsets, 3)
    counter = case.counter(place)
    _add(counter, case, 20, 40)
    for first, end, missing in [(50, 60, "0 to 19"), (0, 20, "40 to 49")]:
        _add(counter, case, first, end)
        with pytest.raises(ValueError, match=f"candidates {missing} of 60 are in no block"):
            counter.finish(60)
    _add(counter, case, 40, 50)
    assert_counts_equal(counter.finish(60), case.count(place))
    with pytest.raises(ValueError, match="expected 55, but candidate 59 was counted"):
        counter.finish(55)
    with pytest.raises(ValueError, match="candidates 60 to 60 of 61 are in no block"):
        counter.finish(61)


def test_blocks_may_be_read_only_memory_maps_of_sixteen_bits(place: Place, tmp_path: Path) -> None:
    case = random_case(3, queries=30, candidates=101, width=33, groups=3, integers=True)
    np.save(tmp_path / "candidates.npy", case.candidates.numpy().astype(np.float16))
    mapped = np.load(tmp_path / "candidates.npy", mmap_mode="r")
    counter = case.counter(place)
    for first in range(0, 101, 40):
        counter.add(mapped[first : first + 40], case.groups.numpy()[first : first + 40], first)
    assert_counts_equal(counter.finish(), case.count(place))


def test_positives_shared_by_queries_may_be_given_once(place: Place) -> None:
    case = random_case(4, queries=30, candidates=20, width=33, groups=3, integers=False)
    distinct, rows = case.positives.unique(return_inverse=True)
    counter = RankCounter(
        case.queries.to(place.device),
        case.candidates[distinct].to(place.device),
        case.positives.to(place.device),
        case.offsets.to(place.device),
        3,
        positive_rows=rows.to(place.device),
        backend=place.backend,
    )
    _add(counter, case, 0, 20)
    assert_counts_equal(counter.finish(), case.count(place))


def test_candidates_counted_twice_are_refused_and_the_counter_stays_good(place: Place) -> None:
    case = random_case(5, queries=9, candidates=60, width=8, groups=3, integers=True)
    counter = case.counter(place)
    _add(counter, case, 20, 40)
    for first, end in [(20, 40), (10, 21), (39, 60), (25, 30), (0, 60)]:
        with pytest.raises(ValueError, match="overlap candidates 20 to 39"):
            _add(counter, case, first, end)
    _add(counter, case, 40, 60)
    other = case.counter(place)
    _add(other, case, 0, 21)
    with pytest.raises(ValueError, match="overlap candidates 20 to 39"):
        counter.merge(other)
    _add(counter, case, 0, 20)
    assert_counts_equal(counter.finish(), case.count(place))


def test_a_block_of_bad_groups_is_refused_and_the_counter_stays_good(place: Place) -> None:
    case = random_case(10, queries=9, candidates=60, width=8, groups=3, integers=True)
    counter = case.counter(place)
    _add(counter, case, 0, 30)
    with pytest.raises(ValueError, match=r"groups: entry 0 is 3, outside \[0, 3\)"):
        counter.add(case.candidates[30:], torch.full_like(case.groups[30:], 3), 30)
    _add(counter, case, 30, 60)
    assert_counts_equal(counter.finish(60), case.count(place))


def test_a_total_beyond_32_bits_is_refused(place: Place) -> None:
    case = random_case(6, queries=9, candidates=60, width=8, groups=3, integers=True)
    counter = case.counter(place)
    with pytest.raises(ValueError, match=r"2\^31"):
        counter.add(case.candidates, case.groups, 2**31 - 60)
    counter.add(case.candidates, case.groups, 2**31 - 61)
    with pytest.raises(ValueError, match="first_index"):
        counter.add(case.candidates, case.groups, -1)


def test_a_positive_that_no_block_brought_is_named(place: Place) -> None:
    case = random_case(7, queries=9, candidates=60, width=8, groups=3, integers=True)
    counter = case.counter(place)
    _add(counter, case, 0, 30)
    absent = next(p for p, candidate in enumerate(case.positives.tolist()) if candidate >= 30)
    with pytest.raises(ValueError, match=f"entry {absent}, candidate {int(case.positives[absent])}, is in no block"):
        counter.finish()


def test_a_positive_that_scores_otherwise_in_its_block_is_an_error(place: Place) -> None:
    case = random_case(8, queries=9, candidates=60, width=8, groups=3, integers=False)
    counter = case.counter(place)
    changed = case.candidates.clone()
    changed[int(case.positives[0])] *= 1 + 2.0**-20
    counter.add(changed, case.groups, 0)
    with pytest.raises(RuntimeError, match=f"of {len(case.positives)} positives met their own score"):
        counter.finish()


def test_counters_of_other_positives_or_queries_do_not_merge(place: Place) -> None:
    case = random_case(9, queries=9, candidates=60, width=8, groups=3, integers=True)
    others = {
        "thresholds": Case(case.queries + 1, case.candidates, case.groups, case.positives, case.offsets, 3),
        "num_groups": Case(case.queries, case.candidates, case.groups, case.positives, case.offsets, 4),
    }
    for word, other in others.items():
        with pytest.raises(ValueError, match=word):
            case.counter(place).merge(other.counter(place))


MEMORY_PROBE = """
import resource, sys, torch
from hybatch.ops import rank_counts
Q, D, H = 4000, 60000, 8
candidates = torch.nn.functional.normalize(torch.randn(D, H))
groups, positives, offsets = torch.arange(D) * 3 // D, torch.randint(0, D, (Q,)), torch.arange(Q + 1)
queries = candidates[positives] + 0.1 * torch.randn(Q, H)
small = rank_counts(queries[:9], candidates, groups, positives[:9], offsets[:10], 3, backend=sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rank_counts(queries, candidates, groups, positives, offsets, 3, backend=sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_memory_does_not_grow_with_queries_times_candidates(place: Place) -> None:
    """Their scores would take 0.9 GiB in float32; the resident set may grow by an eighth of it."""
    if place.device != "cpu":
        pytest.skip("measures host memory")
    run = subprocess.run(
        [sys.executable, "-c", MEMORY_PROBE, place.backend], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 4000 * 60000 * 4 / 8
