"""The loss's CUDA kernels emulated on the host: the device's own tiles, shares, masks, layouts and sums around products
that numpy forms, against dense float64. What only a GPU does is tested in `test_hopper`.

Shapes: Q queries, D candidates, H embedding width.
"""

from __future__ import annotations

import ctypes
import functools
import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.ops.contrastive.test_extension import (
    EPSILON,
    Problem,
    assert_lse,
    dense_gradients,
    largest,
    logits_of,
    random_problem,
    random_weights,
)

REPOSITORY = Path(__file__).resolve().parents[3]
KINDS = {torch.bfloat16: 2, torch.float16: 3}  # numbers of ElementKind
UNIT = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}  # largest relative error of rounding
SIZES = st.integers(1, 300)
MULTIPROCESSORS = st.sampled_from([1, 2, 5, 8, 132])


class CProblem(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_queries", "num_candidates", "width")),
        *((name, ctypes.c_void_p) for name in ("products", "queries", "candidates")),
        *((name, ctypes.c_void_p) for name in ("positive_index", "query_groups", "candidate_groups")),
        ("scale", ctypes.c_float),
        ("kind", ctypes.c_int32),
    ]


class Upstream(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_void_p)
        for name in ("row_lse", "grad_row_lse", "grad_positive", "column_lse", "grad_column_lse")
    ]


class ExponentialSum(ctypes.Structure):
    _fields_ = [("maximum", ctypes.c_float), ("sum", ctypes.c_float)]


class TileShares(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("row_tiles", "column_tiles", "row_shares", "column_shares")]


class ProductItems(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("row_tiles", "column_tiles", "num_slabs", "num_splits")]


@functools.cache
def compiled(folder: Path) -> ctypes.CDLL:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    source, library = REPOSITORY / "tests" / "csrc" / "cuda" / "contrastive_emulation.cpp", folder / "emulation.so"
    flags = ["-std=c++20", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra"]
    trapping = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    include = ["-I", str(REPOSITORY / "csrc")]
    subprocess.run([compiler, *flags, *trapping, *include, str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.LogSumExpOf.restype = loaded.WeightFactorOf.restype = ctypes.c_float
    for name in ("GenericSlabRows", "HopperSlabRowsOf", "WeightStrideOf"):
        getattr(loaded, name).restype = ctypes.c_int64
    return loaded


@pytest.fixture(scope="module")
def emulation(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compiled(tmp_path_factory.mktemp("contrastive"))


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


class Kept:
    """A problem as C sees it, and the tensors that it points into."""

    def __init__(self, problem: Problem, dtype: torch.dtype = torch.bfloat16) -> None:
        self.problem = replace(
            problem, queries=problem.queries.to(dtype).float(), candidates=problem.candidates.to(dtype).float()
        )
        self.products = self.problem.queries @ self.problem.candidates.T
        p = self.problem
        tensors = (self.products, p.queries, p.candidates, p.positive_index, p.query_groups, p.candidate_groups)
        sizes = (*self.products.shape, p.queries.size(1))
        self.c = CProblem(*sizes, *map(pointer, tensors), float(p.scale), KINDS[dtype])


def draw_problem(seed: int, sizes: tuple[int, int, int], scale: float, groups: int) -> Problem:
    problem = random_problem(seed, Q=sizes[0], D=sizes[1], H=sizes[2], scale=scale, groups=groups)
    if seed % 3 == 0:  # groups of which the lower halves of 64 bits are equal
        problem = replace(problem, query_groups=problem.query_groups + (problem.query_groups >= 0) * 2**32)
    return problem


def results(function: Any, kept: Kept, *arguments: Any, columns: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    num_queries, num_candidates = kept.products.shape
    row_lse, positive_logit = torch.full((num_queries,), torch.nan), torch.zeros(num_queries)
    column_lse = torch.full((num_candidates,), torch.nan)
    outputs = (pointer(row_lse), pointer(positive_logit), pointer(column_lse) if columns else None)
    function(ctypes.byref(kept.c), *arguments, *outputs)
    return row_lse, positive_logit, column_lse


def assert_forward(kept: Kept, found: tuple[Tensor, Tensor, Tensor]) -> None:
    problem = kept.problem
    exact_QD = logits_of(problem, torch.float64)
    peak = largest(exact_QD)
    assert_lse(found[0], exact_QD.logsumexp(1), problem.queries.size(1), peak)
    assert_lse(found[2], exact_QD.logsumexp(0), problem.queries.size(1), peak)
    logits_QD = kept.products * problem.scale
    rows = (problem.positive_index >= 0).nonzero().flatten()
    assert torch.equal(found[1][rows], logits_QD[rows, problem.positive_index[rows]])
    assert not found[1][problem.positive_index < 0].any()
    alone = (~problem.left_out()).sum(1) == 1
    alone &= problem.positive_index >= 0
    assert torch.equal(found[0][alone], found[1][alone])


PROBLEMS = {
    "seed": st.integers(0, 2**32),
    "Q": SIZES,
    "D": SIZES,
    "H": SIZES,
    "groups": st.sampled_from([0, 1, 4, 1000]),
    "scale": st.sampled_from([1.0, 20.0, 200.0]),
}


@settings(max_examples=20, deadline=None)
@given(multiprocessors=MULTIPROCESSORS, **PROBLEMS)
@example(multiprocessors=3, seed=1, Q=700, D=1100, H=64, groups=40, scale=100.0)
def test_hopper_log_sum_exps_are_those_of_float64(
    emulation: ctypes.CDLL, seed: int, Q: int, D: int, H: int, groups: int, scale: float, multiprocessors: int
) -> None:
    kept = Kept(draw_problem(seed, (Q, D, H), scale, groups))
    found = results(emulation.HopperForward, kept, multiprocessors)
    assert_forward(kept, found)
    without = results(emulation.HopperForward, kept, multiprocessors, columns=False)
    assert torch.equal(without[0], found[0])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), groups=st.sampled_from([300, 3000, 100_000]))
def test_whole_tiles_with_few_positives_leave_out_exactly_the_pairs_that_share_a_group(
    emulation: ctypes.CDLL, seed: int, groups: int
) -> None:
    problem = draw_problem(seed, (256, 512, 8), 20.0, groups)
    few = torch.where(torch.arange(256) % 100 == 7, problem.positive_index, -1)
    kept = Kept(replace(problem, positive_index=few, candidate_groups=problem.candidate_groups.clamp(min=-1)))
    assert_forward(kept, results(emulation.HopperForward, kept, 3))


@settings(max_examples=15, deadline=None)
@given(**PROBLEMS)
def test_the_sums_for_every_architecture_are_those_of_float64(
    emulation: ctypes.CDLL, seed: int, Q: int, D: int, H: int, groups: int, scale: float
) -> None:
    kept = Kept(draw_problem(seed, (Q, D, H), scale, groups))
    assert_forward(kept, results(emulation.GenericForward, kept))


@pytest.mark.parametrize("peak", [60.0, 90.0, 200.0, 3000.0])
def test_columns_far_below_the_largest_logit_of_their_rows_keep_their_precision(
    emulation: ctypes.CDLL, peak: float
) -> None:
    """One candidate dwarfs the others in every row: relative to it they would vanish."""
    problem = random_problem(3, Q=140, D=300, H=8, scale=1.0, groups=0)
    kept = Kept(replace(problem, candidate_groups=torch.full((300,), -1)))
    kept.products[:, 17] += peak
    kept.products[5] -= 2 * peak
    row_lse, _, column_lse = results(emulation.HopperForward, kept, 2)
    exact_QD = kept.products.double()
    for found, exact in ((row_lse, exact_QD.logsumexp(1)), (column_lse, exact_QD.logsumexp(0))):
        assert ((found.double() - exact).abs() <= 4 * EPSILON * (1 + exact.abs())).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_product_that_is_not_finite_never_passes_for_a_finite_loss(emulation: ctypes.CDLL, bad: float) -> None:
    problem = random_problem(6, Q=40, D=60, H=20, scale=20.0, groups=0, absent=False)
    kept = Kept(replace(problem, candidate_groups=torch.full((60,), -1)))
    kept.products[17] = torch.where(kept.products[17] > 0, bad, -bad)  # as an infinite element of the query makes it
    row_lse, positive_logit, _ = results(emulation.HopperForward, kept, 8)
    assert not (row_lse - positive_logit).sum().isfinite()


def test_only_tiles_with_a_pair_that_is_left_out_or_a_positive_look_at_groups(emulation: ctypes.CDLL) -> None:
    problem = random_problem(7, Q=128, D=1024, H=4, scale=1.0)
    distinct = replace(
        problem,
        positive_index=torch.arange(128),
        query_groups=torch.arange(128),
        candidate_groups=torch.arange(1024),
    )
    for candidates, expected in (
        (distinct.candidate_groups, 8),  # the warps of the tile that holds the positives
        (torch.full((1024,), -1), 8),
        (torch.where(torch.arange(1024) == 700, -2, distinct.candidate_groups), 16),
        (torch.where(torch.arange(1024) == 700, 3, distinct.candidate_groups), 9),
    ):
        kept = Kept(replace(distinct, candidate_groups=candidates))
        assert emulation.SlowWarps(ctypes.byref(kept.c)) == expected


def exact_weights(problem: Problem, lse: tuple[Tensor, Tensor], weights: tuple[Tensor, ...]) -> Tensor:
    """[Q, D], absolute values of what each pair's weight is made of."""
    logits_QD = logits_of(problem, torch.float64)
    rows_QD = (logits_QD - lse[0].double()[:, None]).exp().nan_to_num() * weights[0].abs()[:, None]
    columns_QD = (logits_QD - lse[1].double()).exp().nan_to_num() * weights[2].abs()
    total_QD = rows_QD + columns_QD
    rows = (problem.positive_index >= 0).nonzero().flatten()
    total_QD[rows, problem.positive_index[rows]] += weights[1][rows].abs()
    return total_QD


@settings(max_examples=15, deadline=None)
@given(
    multiprocessors=MULTIPROCESSORS,
    dtype=st.sampled_from(list(KINDS)),
    slab_tiles=st.integers(1, 3),
    upstream=st.sampled_from([1.0, 1e-6, 3e4]),
    **PROBLEMS,
)
@example(multiprocessors=8, dtype=torch.float16, slab_tiles=1, upstream=1e-9, seed=2, Q=300, D=300, H=300, groups=4,
         scale=20.0)  # fmt: skip
def test_hopper_gradients_are_those_of_float64_to_the_rounding_of_their_weights(
    emulation: ctypes.CDLL,
    seed: int,
    Q: int,
    D: int,
    H: int,
    groups: int,
    scale: float,
    multiprocessors: int,
    dtype: torch.dtype,
    slab_tiles: int,
    upstream: float,
) -> None:
    kept = Kept(draw_problem(seed, (Q, D, H), scale, groups), dtype)
    weights = tuple(upstream * weight for weight in random_weights(kept.problem, seed))
    exact_QD = logits_of(kept.problem, torch.float64)
    lse = exact_QD.logsumexp(1).float(), exact_QD.logsumexp(0).float()
    given_up = Upstream(*map(pointer, (lse[0], weights[0], weights[1], lse[1], weights[2])))
    grad_queries, grad_candidates = torch.full((Q, H), torch.nan), torch.full((D, H), torch.nan)
    emulation.HopperBackward(
        ctypes.byref(kept.c), ctypes.byref(given_up), multiprocessors, ctypes.c_int64(128 * slab_tiles), 4,
        pointer(grad_queries), pointer(grad_candidates),
    )  # fmt: skip
    exact = dense_gradients(kept.problem, weights, torch.float64)
    sizes_QD = exact_weights(kept.problem, lse, weights) * float(kept.problem.scale)
    # What float32 logits and log-sum-exps leave open, and the weights' rounding; then their smallest place in 16 bits.
    relative = UNIT[dtype] + 8 * EPSILON * (1 + largest(exact_QD)) + H * EPSILON
    place = float(kept.problem.scale) * 2.0**-25 * max(float(w.abs().max()) for w in weights) / 2**12
    terms = ((sizes_QD, kept.problem.candidates), (sizes_QD.T, kept.problem.queries))
    for found, wanted, (size, others) in zip((grad_queries, grad_candidates), exact, terms, strict=False):
        bound = (relative * size + place) @ others.double().abs()
        assert ((found.double() - wanted).abs() <= bound * (1 + (Q + D) * EPSILON) + 1e-37).all()


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.one_of(st.floats(-250, 250, width=32), st.just(-math.inf)), min_size=1, max_size=20),
    data=st.data(),
)
def test_partial_sums_join_in_any_order_to_the_same_log_sum_exp(
    emulation: ctypes.CDLL, values: list[float], data: st.DataObject
) -> None:
    sums = [ExponentialSum(value, 0.0 if value == -math.inf else 1.0) for value in values]
    while len(sums) > 1:
        a = sums.pop(data.draw(st.integers(0, len(sums) - 1)))
        b = sums.pop(data.draw(st.integers(0, len(sums) - 1)))
        joined = ExponentialSum()
        emulation.JoinPair(ctypes.byref(a), ctypes.byref(b), ctypes.byref(joined))
        sums.append(joined)
    exact = float(torch.tensor(values, dtype=torch.float64).logsumexp(0))
    found = emulation.LogSumExpOf(ctypes.byref(sums[0]))
    if math.isinf(exact):
        assert found == exact
    else:
        assert abs(found - exact) <= 4 * EPSILON * (1 + abs(exact)) + 2 * len(values) * EPSILON


@settings(deadline=None)
@given(value=st.floats(0, 2.0**127, width=32))
def test_weights_are_scaled_by_a_power_of_two_that_fits_them_into_16_bits(emulation: ctypes.CDLL, value: float) -> None:
    factor = emulation.WeightFactorOf(ctypes.c_float(value))
    assert math.frexp(factor)[0] == 0.5
    assert 3 * value * factor <= 65504 or value < 2.0**-126
    if value > 2.0**-85:
        assert 2**12 <= value * factor < 2**13
    assert emulation.WeightFactorOf(ctypes.c_float(math.nan)) == emulation.WeightFactorOf(ctypes.c_float(math.inf)) == 1


def shares_of(emulation: ctypes.CDLL, rows: int, columns: int, multiprocessors: int) -> TileShares:
    shares = TileShares()
    arguments = (ctypes.c_int64(rows), ctypes.c_int64(columns), multiprocessors)
    emulation.DealTilesOf(*arguments, ctypes.byref(shares))
    return shares


@settings(deadline=None)
@given(rows=st.integers(1, 2**21), columns=st.integers(1, 2**21), multiprocessors=st.sampled_from([1, 7, 78, 114, 132]))
def test_tiles_are_dealt_out_evenly_and_to_no_more_blocks_than_run_at_once(
    emulation: ctypes.CDLL, rows: int, columns: int, multiprocessors: int
) -> None:
    s = shares_of(emulation, rows, columns, multiprocessors)
    assert s.row_tiles == -(-rows // 128)
    assert s.column_tiles == -(-columns // 256)
    assert 1 <= s.row_shares <= s.row_tiles
    assert 1 <= s.column_shares <= s.column_tiles
    assert s.row_shares * s.column_shares <= multiprocessors
    most = -(-s.row_tiles // s.row_shares) * -(-s.column_tiles // s.column_shares)
    tiles = s.row_tiles * s.column_tiles
    if tiles >= 1000 * multiprocessors and min(s.row_tiles, s.column_tiles) >= 200:
        assert most * multiprocessors <= 1.1 * tiles


@pytest.mark.parametrize(("B", "limit"), [(65_536, 300e6), (1_048_576, 8e9)])
def test_a_square_problem_stays_within_its_memory_on_132_multiprocessors(
    emulation: ctypes.CDLL, B: int, limit: float
) -> None:
    s = shares_of(emulation, B, B, 132)
    forward = 8 * (s.column_shares + 2 * s.row_shares) * B
    rows = emulation.HopperSlabRowsOf(ctypes.c_int64(B), ctypes.c_int64(B))
    partial = 0
    for count in (rows, B % rows):
        items = ProductItems()
        sizes = (ctypes.c_int64(count), ctypes.c_int64(768), ctypes.c_int64(B))
        emulation.SplitProductOf(*sizes, 132, ctypes.byref(items))
        partial = max(partial, 4 * items.num_splits * count * 768)
    backward = 2 * rows * emulation.WeightStrideOf(ctypes.c_int64(B)) + partial + 8 * B
    assert max(forward, backward) < limit
    assert rows % 128 == 0


@settings(deadline=None)
@given(
    rows=st.integers(1, 2**21), columns=st.integers(1, 2048), terms=st.integers(1, 2**21),
    multiprocessors=st.sampled_from([1, 78, 132]),
)  # fmt: skip
def test_a_product_is_split_only_to_occupy_the_device(
    emulation: ctypes.CDLL, rows: int, columns: int, terms: int, multiprocessors: int
) -> None:
    items = ProductItems()
    sizes = (ctypes.c_int64(rows), ctypes.c_int64(columns), ctypes.c_int64(terms))
    emulation.SplitProductOf(*sizes, multiprocessors, ctypes.byref(items))
    assert items.num_slabs == -(-terms // 64)
    assert 1 <= items.num_splits <= min(16, items.num_slabs)
    tiles = items.row_tiles * items.column_tiles
    time = -(-tiles * items.num_splits // multiprocessors) * (-(-items.num_slabs // items.num_splits) + 4)
    assert time <= -(-tiles // multiprocessors) * (items.num_slabs + 4)


@settings(deadline=None)
@given(queries=st.integers(1, 2**21), candidates=st.integers(1, 2**31 - 2000))
def test_slabs_are_whole_tiles_of_bounded_memory(emulation: ctypes.CDLL, queries: int, candidates: int) -> None:
    sizes = (ctypes.c_int64(queries), ctypes.c_int64(candidates))
    hopper, generic = emulation.HopperSlabRowsOf(*sizes), emulation.GenericSlabRows(*sizes)
    for rows, element, limit in ((hopper, 2, 2**32), (generic, 4, 2**28)):
        assert rows >= 128
        assert rows % 128 == 0
        assert rows < queries + 128
        assert rows == 128 or rows * candidates * element <= limit
