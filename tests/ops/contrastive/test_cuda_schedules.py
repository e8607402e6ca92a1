"""How the loss's CUDA kernels divide their work and join their sums: the headers that say so, called on the host."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.contrastive.test_extension import EPSILON

REPOSITORY = Path(__file__).resolve().parents[3]


class ExponentialSum(ctypes.Structure):
    _fields_ = [("maximum", ctypes.c_float), ("sum", ctypes.c_float)]


class TileShares(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("row_tiles", "column_tiles", "row_shares", "column_shares")]


class ProductItems(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("row_tiles", "column_tiles", "num_slabs", "num_splits")]


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    source, library = REPOSITORY / "tests/csrc/contrastive_functions.cpp", tmp_path_factory.mktemp("loss") / "loss.so"
    flags = ["-std=c++20", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra"]
    trapping = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    include = ["-I", str(REPOSITORY / "csrc")]
    subprocess.run([compiler, *flags, *trapping, *include, str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.LogSumExpOf.restype = loaded.WeightFactorOf.restype = ctypes.c_float
    for name in ("GenericSlabRows", "HopperSlabRowsOf", "WeightStrideOf"):
        getattr(loaded, name).restype = ctypes.c_int64
    return loaded


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.one_of(st.floats(-250, 250, width=32), st.just(-math.inf)), min_size=1, max_size=20),
    data=st.data(),
)
def test_partial_sums_join_in_any_order_to_the_same_log_sum_exp(
    functions: ctypes.CDLL, values: list[float], data: st.DataObject
) -> None:
    sums = [ExponentialSum(value, 0.0 if value == -math.inf else 1.0) for value in values]
    while len(sums) > 1:
        a = sums.pop(data.draw(st.integers(0, len(sums) - 1)))
        b = sums.pop(data.draw(st.integers(0, len(sums) - 1)))
        joined = ExponentialSum()
        functions.JoinPair(ctypes.byref(a), ctypes.byref(b), ctypes.byref(joined))
        sums.append(joined)
    exact = float(torch.tensor(values, dtype=torch.float64).logsumexp(0))
    found = functions.LogSumExpOf(ctypes.byref(sums[0]))
    if math.isinf(exact):
        assert found == exact
    else:
        assert abs(found - exact) <= 4 * EPSILON * (1 + abs(exact)) + 2 * len(values) * EPSILON


@settings(deadline=None)
@given(value=st.floats(0, 2.0**127, width=32))
def test_weights_are_scaled_by_a_power_of_two_that_fits_them_into_16_bits(functions: ctypes.CDLL, value: float) -> None:
    factor = functions.WeightFactorOf(ctypes.c_float(value))
    assert math.frexp(factor)[0] == 0.5
    assert 3 * value * factor <= 65504 or value < 2.0**-126
    if value > 2.0**-85:
        assert 2**12 <= value * factor < 2**13
    assert functions.WeightFactorOf(ctypes.c_float(math.nan)) == functions.WeightFactorOf(ctypes.c_float(math.inf)) == 1


def shares_of(functions: ctypes.CDLL, rows: int, columns: int, multiprocessors: int) -> TileShares:
    shares = TileShares()
    arguments = (ctypes.c_int64(rows), ctypes.c_int64(columns), multiprocessors)
    functions.DealTilesOf(*arguments, ctypes.byref(shares))
    return shares


@settings(deadline=None)
@given(rows=st.integers(1, 2**21), columns=st.integers(1, 2**21), multiprocessors=st.sampled_from([1, 7, 78, 114, 132]))
def test_tiles_are_dealt_out_evenly_and_to_no_more_blocks_than_run_at_once(
    functions: ctypes.CDLL, rows: int, columns: int, multiprocessors: int
) -> None:
    s = shares_of(functions, rows, columns, multiprocessors)
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
    functions: ctypes.CDLL, B: int, limit: float
) -> None:
    s = shares_of(functions, B, B, 132)
    forward = 8 * (s.column_shares + 2 * s.row_shares) * B
    rows = functions.HopperSlabRowsOf(ctypes.c_int64(B), ctypes.c_int64(B))
    partial = 0
    for count in (rows, B % rows):
        items = ProductItems()
        sizes = (ctypes.c_int64(count), ctypes.c_int64(768), ctypes.c_int64(B))
        functions.SplitProductOf(*sizes, 132, ctypes.byref(items))
        partial = max(partial, 4 * items.num_splits * count * 768)
    backward = 2 * rows * functions.WeightStrideOf(ctypes.c_int64(B)) + partial + 8 * B
    assert max(forward, backward) < limit
    assert rows % 128 == 0


@settings(deadline=None)
@given(
    rows=st.integers(1, 2**21), columns=st.integers(1, 2048), terms=st.integers(1, 2**21),
    multiprocessors=st.sampled_from([1, 78, 132]),
)  # fmt: skip
def test_a_product_is_split_only_to_occupy_the_device(
    functions: ctypes.CDLL, rows: int, columns: int, terms: int, multiprocessors: int
) -> None:
    items = ProductItems()
    sizes = (ctypes.c_int64(rows), ctypes.c_int64(columns), ctypes.c_int64(terms))
    functions.SplitProductOf(*sizes, multiprocessors, ctypes.byref(items))
    assert items.num_slabs == -(-terms // 64)
    assert 1 <= items.num_splits <= min(16, items.num_slabs)
    tiles = items.row_tiles * items.column_tiles
    time = -(-tiles * items.num_splits // multiprocessors) * (-(-items.num_slabs // items.num_splits) + 4)
    assert time <= -(-tiles // multiprocessors) * (items.num_slabs + 4)


@settings(deadline=None)
@given(queries=st.integers(1, 2**21), candidates=st.integers(1, 2**31 - 2000))
def test_slabs_are_whole_tiles_of_bounded_memory(functions: ctypes.CDLL, queries: int, candidates: int) -> None:
    sizes = (ctypes.c_int64(queries), ctypes.c_int64(candidates))
    hopper, generic = functions.HopperSlabRowsOf(*sizes), functions.GenericSlabRows(*sizes)
    for rows, element, limit in ((hopper, 2, 2**32), (generic, 4, 2**28)):
        assert rows >= 128
        assert rows % 128 == 0
        assert rows < queries + 128
        assert rows == 128 or rows * candidates * element <= limit
