"""The compiled CPU ops: every instruction set against an exact chain and a brute-force count.

Shapes: Q queries, D candidates, P positives, G groups, H embedding width.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybatch.ops import BestCandidates, backend
from tests.ops.instruction_sets import INSTRUCTION_SETS
from tests.ops.ranking.problems import Counts, Problem, brute_force, count, pair_scores, random_problem

REPOSITORY = Path(__file__).resolve().parents[3]
SELF_HITS, BAD_QUERIES, BAD_CANDIDATES, OVERFLOWS = range(4)

_missing = backend.why_missing("cpu")
pytestmark = pytest.mark.skipif(_missing is not None, reason=f"no compiled ops: {_missing}")


def assert_same_counts(ours: Counts, theirs: Counts) -> None:
    for mine, other in zip(ours.tables(), theirs.tables(), strict=True):
        assert torch.equal(mine, other)
    assert ours.status[SELF_HITS] == theirs.status[SELF_HITS]


def fma_chain(queries_NH: np.ndarray, candidates_NH: np.ndarray) -> np.ndarray:
    """One chain of fused multiply-adds per row, exactly.

    A product of two floats is exact in float64, the sum with the accumulator is not. Rounding it to odd (of the two
    neighbours of an inexact sum the one whose last bit is 1) makes the second rounding, to float32, the right one.
    """
    chain = np.zeros(len(queries_NH), dtype=np.float32)
    for query, candidate in zip(queries_NH.T.astype(np.float64), candidates_NH.T.astype(np.float64), strict=True):
        product, accumulator = query * candidate, chain.astype(np.float64)
        total = product + accumulator
        part = total - product
        error = (product - (total - part)) + (accumulator - part)
        even = total.view(np.int64) % 2 == 0
        odd_neighbour = np.nextafter(total, np.copysign(np.inf, error))
        chain = np.where((error != 0) & even, odd_neighbour, total).astype(np.float32)
    return chain


@pytest.mark.parametrize("width", [0, 1, 7, 64, 129, 384, 1000])
def test_scores_are_bitwise_one_chain_of_fused_multiply_adds(instruction_set: str, width: int) -> None:
    generator = np.random.default_rng(width)
    for spread in (0, 12):  # equal magnitudes; magnitudes from 2^-12 to 2^12
        shape = (50, width)
        queries, candidates = (
            (generator.standard_normal(shape) * 2.0 ** generator.integers(-spread, spread + 1, shape)).astype("f4")
            for _ in range(2)
        )
        scores = torch.ops.hybatch.pair_scores(
            torch.from_numpy(queries), torch.from_numpy(candidates), torch.arange(51), "fp32"
        )
        assert scores.numpy().tobytes() == fma_chain(queries, candidates).tobytes()


def test_subnormal_scores_survive_a_program_that_flushes_them(instruction_set: str) -> None:
    queries = torch.full((20, 3), 1e-20)
    candidates = torch.full((20, 3), 2e-20)
    expected = fma_chain(queries.numpy(), candidates.numpy())
    assert (expected > 0).all()
    assert (expected < np.finfo(np.float32).tiny).all()
    torch.set_flush_denormal(True)
    try:
        scores = torch.ops.hybatch.pair_scores(queries, candidates, torch.arange(21), "fp32")
    finally:
        torch.set_flush_denormal(False)
    assert scores.numpy().tobytes() == expected.tobytes()


sizes = st.one_of(st.integers(0, 40), st.integers(0, 300))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), Q=sizes, D=sizes, H=sizes, G=st.integers(0, 12), most=st.sampled_from([1, 4, 11, 60]),
    integers=st.booleans(), grouped=st.booleans(), name=st.sampled_from(INSTRUCTION_SETS),
)  # fmt: skip
def test_counts_equal_brute_force(
    seed: int, Q: int, D: int, H: int, G: int, most: int, integers: bool, grouped: bool, name: str
) -> None:
    most = min(most, 2000 // (Q + 1) + 1)
    problem = random_problem(seed, Q=Q, D=D, H=H, G=G, most=most, integers=integers, grouped=grouped)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBATCH_CPU_ISA", name)
        counts = count(problem)
        assert_same_counts(counts, brute_force(problem))
    assert counts.status.tolist() == [len(problem.positives), 0, 0, 0]


@pytest.fixture(scope="module")
def wide() -> Problem:
    """Several passes over H, several blocks per group, partial tiles at every end."""
    return random_problem(7, Q=61, D=3001, H=900, G=3, most=9, grouped=False)


def test_all_instruction_sets_count_alike(wide: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for name in INSTRUCTION_SETS:
        monkeypatch.setenv("HYBATCH_CPU_ISA", name)
        results.append((pair_scores(wide), count(wide)))
    for thresholds, counts in results[1:]:
        assert torch.equal(thresholds, results[0][0])
        assert_same_counts(counts, results[0][1])


def test_counts_of_a_wide_problem_equal_brute_force(instruction_set: str, wide: Problem) -> None:
    assert_same_counts(count(wide), brute_force(wide))


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_threads_change_no_count(wide: Problem, num_threads: Callable[[int], None], threads: int) -> None:
    num_threads(1)
    thresholds, counts = pair_scores(wide), count(wide)
    num_threads(threads)
    assert torch.equal(pair_scores(wide), thresholds)
    assert_same_counts(count(wide), counts)


@pytest.mark.parametrize("cuts", [(1,), (1000, 1031), (13, 13, 2999)])
def test_cutting_the_candidates_into_blocks_changes_no_count(
    instruction_set: str, wide: Problem, cuts: tuple[int, ...]
) -> None:
    assert_same_counts(count(wide, cuts=cuts), count(wide))


def test_padding_with_other_queries_and_candidates_changes_no_count(instruction_set: str, wide: Problem) -> None:
    counts = count(wide)
    more = torch.randn(5, 900, generator=torch.Generator().manual_seed(0))
    padded = replace(
        wide,
        queries=torch.cat([wide.queries, more]),
        offsets=torch.cat([wide.offsets, wide.offsets[-1:].expand(5)]),
        candidates=torch.cat([wide.candidates, more]),
        groups=torch.cat([wide.groups, torch.full((5,), wide.num_groups, dtype=torch.int32)]),  # counted nowhere
    )
    assert_same_counts(count(padded), counts)


def test_permuting_the_candidates_moves_only_ties(instruction_set: str) -> None:
    problem = random_problem(11, Q=40, D=500, H=6, G=4, integers=True)
    permutation = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    moved = replace(
        problem,
        candidates=problem.candidates[permutation],
        groups=problem.groups[permutation],
        positives=permutation.argsort()[problem.positives],
    )
    before, after = count(problem), count(moved)
    assert torch.equal(before.greater, after.greater)
    assert torch.equal(before.tied_before + before.tied_after, after.tied_before + after.tied_after)
    assert (before.tied_before != after.tied_before).any()


def test_permuting_the_queries_permutes_the_counts(instruction_set: str, wide: Problem) -> None:
    counts = count(wide)
    order = torch.randperm(len(wide.queries), generator=torch.Generator().manual_seed(2))
    bounds = wide.offsets.tolist()
    moved_P = torch.cat([torch.arange(bounds[q], bounds[q + 1]) for q in order.tolist()])
    lengths = wide.offsets.diff()[order]
    moved = replace(
        wide,
        queries=wide.queries[order],
        positives=wide.positives[moved_P],
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
    )
    assert_same_counts(count(moved), Counts(*(table[moved_P] for table in counts.tables()), counts.status))


def test_identical_candidates_tie_by_index(instruction_set: str) -> None:
    candidates = torch.ones(100, 5)
    problem = Problem(
        queries=torch.ones(1, 5),
        candidates=candidates,
        groups=torch.arange(100, dtype=torch.int32) % 2,
        positives=torch.tensor([0, 37, 99]),
        offsets=torch.tensor([0, 3]),
        num_groups=2,
    )
    counts = count(problem)
    assert counts.greater.sum() == 0
    assert counts.tied_before.tolist() == [[0, 0], [19, 18], [50, 49]]
    assert counts.tied_after.tolist() == [[49, 50], [31, 31], [0, 0]]


def test_hundreds_of_positives_per_query_equal_brute_force(instruction_set: str) -> None:
    for integers in (False, True):
        problem = random_problem(3, Q=9, D=700, H=8, G=3, most=400, integers=integers)
        assert_same_counts(count(problem), brute_force(problem))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_inputs_count_like_their_values_in_32_bits(instruction_set: str, dtype: torch.dtype) -> None:
    problem = random_problem(5, Q=30, D=400, H=100, G=3)
    narrow = replace(problem, queries=problem.queries.to(dtype), candidates=problem.candidates.to(dtype))
    exact = replace(problem, queries=narrow.queries.float(), candidates=narrow.candidates.float())
    assert torch.equal(pair_scores(narrow), pair_scores(exact))
    assert_same_counts(count(narrow), count(exact))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_16_bit_value_is_read_exactly(instruction_set: str, dtype: torch.dtype) -> None:
    values = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)[:, None].contiguous()
    ones = torch.ones(len(values), 1, dtype=dtype)
    scores = torch.ops.hybatch.pair_scores(ones, values, torch.arange(len(values) + 1), "fp32")
    expected = values.flatten().float()
    finite = expected.isfinite()
    assert torch.equal(scores[finite], expected[finite])
    assert not scores[~finite].isfinite().any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("column", [0, 63, 64, 129])
def test_values_that_are_not_finite_are_reported(instruction_set: str, bad: float, column: int) -> None:
    problem = random_problem(1, Q=20, D=100, H=130, G=2)
    queries, candidates = problem.queries.clone(), problem.candidates.clone()
    queries[17, column] = bad
    candidates[99, column] = bad
    thresholds = pair_scores(problem)
    assert count(replace(problem, queries=queries), thresholds=thresholds).status[BAD_QUERIES] > 0
    assert count(replace(problem, candidates=candidates), thresholds=thresholds).status[BAD_CANDIDATES] > 0
    assert count(problem).status[BAD_QUERIES:].tolist() == [0, 0, 0]


def test_bad_values_are_reported_where_nothing_is_counted(instruction_set: str) -> None:
    nan = torch.full((2, 3), float("nan"))
    empty = Problem(nan, nan[:0], torch.zeros(0, dtype=torch.int32), torch.zeros(0).long(), torch.zeros(3).long(), 1)
    assert count(empty).status.tolist()[BAD_QUERIES] > 0
    no_queries = replace(
        empty, queries=nan[:0], candidates=nan, groups=torch.zeros(2, dtype=torch.int32), offsets=torch.zeros(1).long()
    )
    assert count(no_queries).status.tolist()[BAD_CANDIDATES] > 0


def test_a_query_that_is_not_finite_disturbs_no_other(instruction_set: str) -> None:
    problem = random_problem(2, Q=30, D=200, H=20, G=2)
    bounds = problem.offsets.tolist()
    query = next(q for q in range(5, 30) if bounds[q + 1] - bounds[q] > 1)
    queries = problem.queries.clone()
    queries[query, 3] = float("nan")
    disturbed, counts = count(replace(problem, queries=queries)), count(problem)
    others = torch.ones(len(problem.positives), dtype=torch.bool)
    others[bounds[query] : bounds[query + 1]] = False
    for table, expected in zip(disturbed.tables(), counts.tables(), strict=True):
        assert torch.equal(table[others], expected[others])
    assert disturbed.status.tolist() == [int(others.sum()), 1, 0, 0]


def test_only_scores_that_overflow_are_reported(instruction_set: str) -> None:
    problem = random_problem(4, Q=15, D=70, H=10, G=1)
    large = replace(problem, queries=torch.full((15, 10), 2.0**63), candidates=torch.zeros(70, 10))
    large.candidates[:, 0] = 2.0**63  # each score is 2^126
    assert count(large).status[OVERFLOWS] == 0
    large.candidates[5] = 2.0**63  # 10 times that
    assert count(large).status[OVERFLOWS] == 15


def test_each_bad_argument_is_named() -> None:
    problem = random_problem(6, Q=4, D=9, H=5, G=2)
    P = len(problem.positives)
    cases = {
        "candidates": replace(problem, candidates=problem.candidates.double()),
        "same width": replace(problem, candidates=torch.zeros(9, 6)),
        "queries must be contiguous": replace(problem, queries=torch.zeros(5, 4).T),
        "offsets must ascend": replace(problem, offsets=torch.tensor([0, 2, 1, P, P])),
        "offsets must begin": replace(problem, offsets=torch.tensor([1, 1, 2, 3, P])),
        "offsets must end": replace(problem, offsets=torch.tensor([0, 1, 1, 2, P + 1])),
        "groups has the wrong dtype": replace(problem, groups=problem.groups.long()),
        "groups must have size 9": replace(problem, groups=problem.groups[:8]),
    }
    thresholds = pair_scores(problem)
    for message, bad in cases.items():
        with pytest.raises(RuntimeError, match=message):
            count(bad, thresholds=thresholds)
    outside = replace(problem, positives=torch.full((P,), 9))
    with pytest.raises(RuntimeError, match=re.escape("positive_rows[0] is 9, outside [0, 9)")):
        pair_scores(outside)
    with pytest.raises(RuntimeError, match="precision must be"):
        torch.ops.hybatch.pair_scores(problem.queries, problem.queries, torch.arange(5), "fp8")


def test_candidate_indices_beyond_31_bits_are_refused() -> None:
    problem = random_problem(6, Q=4, D=9, H=5, G=2)
    table, status = torch.zeros(len(problem.positives), 2, dtype=torch.int32), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(RuntimeError, match=re.escape("below 2^31")):
        torch.ops.hybatch.count_above_(
            table, table.clone(), table.clone(), status, problem.queries, pair_scores(problem), problem.positives,
            problem.offsets, problem.candidates, problem.groups, 2**31 - 5, "fp32",
        )  # fmt: skip


def test_an_instruction_set_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_CPU_ISA", "abacus")
    with pytest.raises(RuntimeError, match=r"HYBATCH_CPU_ISA=abacus cannot run here; use one of: .*portable"):
        pair_scores(random_problem(0, Q=1, D=1, H=1, G=1))


def test_the_dispatcher_accepts_every_op() -> None:
    problem = random_problem(8, Q=6, D=20, H=7, G=2)
    tables = [torch.zeros(len(problem.positives), 2, dtype=torch.int32) for _ in range(3)]
    status = torch.zeros(4, dtype=torch.int64)
    thresholds = pair_scores(problem)
    torch.library.opcheck(
        torch.ops.hybatch.pair_scores.default,
        (problem.queries, problem.candidates, problem.offsets, "fp32", problem.positives),
    )
    torch.library.opcheck(
        torch.ops.hybatch.pair_scores.default,
        (problem.queries, problem.candidates[problem.positives], problem.offsets, "fp32"),
    )
    torch.library.opcheck(
        torch.ops.hybatch.count_above_.default,
        (*tables, status, problem.queries, thresholds, problem.positives, problem.offsets, problem.candidates,
         problem.groups, 0, "fp32"),
    )  # fmt: skip
    best = BestCandidates.none_yet(len(problem.queries), 3, 2, thresholds)
    torch.library.opcheck(
        torch.ops.hybatch.count_and_keep_.default,
        (*tables, status, *best.tensors(), problem.queries, thresholds, problem.positives, problem.offsets,
         problem.candidates, problem.groups, 0, "fp32"),
    )  # fmt: skip


def test_both_ops_compile_into_one_graph() -> None:
    problem = random_problem(9, Q=6, D=20, H=7, G=2)

    def run(queries: Tensor) -> tuple[Tensor, Tensor]:
        tables = [torch.zeros(len(problem.positives), 2, dtype=torch.int32) for _ in range(3)]
        status = torch.zeros(4, dtype=torch.int64)
        thresholds = torch.ops.hybatch.pair_scores(
            queries, problem.candidates, problem.offsets, "fp32", problem.positives
        )
        torch.ops.hybatch.count_above_(
            *tables, status, queries, thresholds, problem.positives, problem.offsets, problem.candidates,
            problem.groups, 0, "fp32",
        )  # fmt: skip
        return torch.stack(tables), status

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for mine, expected in zip(compiled(problem.queries), run(problem.queries), strict=True):
        assert torch.equal(mine, expected)


@pytest.mark.parametrize("name", ["_cpu.so", "_cuda.so"])
def test_the_libraries_need_only_the_stable_part_of_torch(name: str) -> None:
    """A shared library links with any symbol undefined, and then loads with one version of torch only."""
    library = REPOSITORY / "hybatch" / name
    if shutil.which("nm") is None or not library.exists():
        pytest.skip(f"nm or {library} is not there")
    listing = subprocess.check_output(["nm", "-D", "--undefined-only", str(library)], text=True)
    needed = {line.split()[-1] for line in listing.splitlines()}
    allowed = set((REPOSITORY / "csrc" / "torch_symbols.txt").read_text().split())
    assert {symbol for symbol in needed if re.match(r"_Z\w*(2at|3c10|5torch)\d", symbol)} == set()
    assert {symbol for symbol in needed if re.match(r"(aoti_)?torch_", symbol)} <= allowed


def test_the_build_says_how_it_was_made() -> None:
    from hybatch import _build_info

    assert "-ffp-contract=off" in _build_info.flags
    assert _build_info.torch_target_version == "0x020b000000000000"
    assert _build_info.compiler
    assert INSTRUCTION_SETS[-1] == "portable"
