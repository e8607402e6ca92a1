"""Rescoring on CUDA: the device's bands, against scores by tensor cores of any kind; and its kernels, around such
tensor cores, against the compiled CPU op. More of its kernels is tested in `test_cuda`.

Q queries, D candidates, P positives, G groups, H embedding width.
"""

from __future__ import annotations

import ctypes
import itertools
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

from hybatch.ops import backend
from hybatch.ops.precision import round_rows
from tests.csrc.device_model import model
from tests.ops.devices import marks, on_devices
from tests.ops.ranking.problems import (
    FAMILIES,
    Problem,
    adversarial_problem,
    adversarial_rows,
    count,
    random_problem,
)

REPOSITORY = Path(__file__).resolve().parents[3]
KINDS = {"tf32": 1, "bf16": 2, "fp16": 3}  # numbers of ElementKind

_missing = backend.why_missing("cpu")
needs_cpu_ops = pytest.mark.skipif(_missing is not None, reason=f"no compiled CPU ops: {_missing}")


def in_the_model(function: Callable[..., None]) -> Callable[..., None]:
    for mark in marks("model"):
        function = mark(function)
    return function


class TensorCores(ctypes.Structure):
    """How the tensor cores round and add; see tests/csrc/rescoring_functions.cpp."""

    _fields_ = [(name, ctypes.c_int32) for name in ("kind", "group", "bits", "downwards", "interleaved")]


TENSOR_CORES = st.builds(
    TensorCores,
    kind=st.sampled_from(list(KINDS.values())),
    group=st.sampled_from([4, 8, 16]),
    bits=st.sampled_from([22, 23, 25]),
    downwards=st.booleans(),
    interleaved=st.booleans(),
)
COARSEST = {"group": 4, "bits": 22, "downwards": 1, "interleaved": 0}


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    source = REPOSITORY / "tests" / "csrc" / "rescoring_functions.cpp"
    library = tmp_path_factory.mktemp("rescoring") / "rescoring.so"
    flags = ["-std=c++20", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra"]
    trapping = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    include = ["-I", str(REPOSITORY / "csrc")]
    subprocess.run([compiler, *flags, *trapping, *include, str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def scores_and_bands(
    functions: ctypes.CDLL, queries: np.ndarray, candidates: np.ndarray, tile_size: int, model: TensorCores
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[Q, D] float64 each: the tensor cores' scores, the fp32 chain's, and the bands."""
    tables = np.empty((3, len(queries), len(candidates)), dtype=np.float32)
    queries, candidates = (np.ascontiguousarray(rows, dtype=np.float32) for rows in (queries, candidates))
    functions.ScoresAndBands(
        pointer(queries), len(queries), pointer(candidates), len(candidates), queries.shape[1], tile_size,
        ctypes.byref(model), *map(pointer, tables),
    )  # fmt: skip
    coarse, exact, bands = tables.astype(np.float64)
    return coarse, exact, bands


@pytest.mark.parametrize("kind", KINDS)
def test_the_device_rounds_to_nearest_as_torch_does(functions: ctypes.CDLL, kind: str) -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 10**6, dtype=np.uint32)
    bits[::4] = (bits[::4] & np.uint32(0xFFFF0000)) | np.uint32(0x8000)  # ties of bf16
    bits[1::4] = (bits[1::4] & np.uint32(0xFFFFE000)) | np.uint32(0x1000)  # ties of fp16 and tf32
    bits[2::4] = (bits[2::4] & np.uint32(0x80FFFFFF)) + np.uint32(0x33000000)  # small and subnormal as fp16
    values = bits.view(np.float32)
    rounded = np.empty_like(values)
    functions.RoundValues(pointer(values), ctypes.c_int64(len(values)), KINDS[kind], pointer(rounded))
    expected = round_rows(torch.from_numpy(values)[None], kind, "torch")[0].float().numpy()
    np.testing.assert_array_equal(rounded, expected)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1), families=st.tuples(st.sampled_from(FAMILIES), st.sampled_from(FAMILIES)),
    width=st.integers(1, 300), tile_size=st.sampled_from([1, 3, 256]), model=TENSOR_CORES,
)  # fmt: skip
def test_no_score_of_the_tensor_cores_lies_outside_its_band(
    functions: ctypes.CDLL, seed: int, families: tuple[str, str], width: int, tile_size: int, model: TensorCores
) -> None:
    generator = np.random.default_rng(seed)
    queries, candidates = (adversarial_rows(family, 12, width, generator) for family in families)
    coarse, exact, bands = scores_and_bands(functions, queries, candidates, tile_size, model)
    assert np.isfinite(exact).all()
    with np.errstate(invalid="ignore"):
        outside = np.isfinite(bands) & ~(np.abs(coarse - exact) <= bands)
    assert not outside.any(), (coarse[outside][0], exact[outside][0], bands[outside][0])


@pytest.mark.parametrize(("kind", "widest"), [("tf32", 2.0**-10), ("fp16", 2.0**-10), ("bf16", 2.0**-7)])
@pytest.mark.parametrize("width", [64, 384, 1024])
def test_the_band_of_unit_vectors_is_as_narrow_as_their_rounding(
    functions: ctypes.CDLL, width: int, kind: str, widest: float
) -> None:
    rows = adversarial_rows("unit", 20, width, np.random.default_rng(0))
    model = TensorCores(kind=KINDS[kind], **COARSEST)
    _, _, bands = scores_and_bands(functions, rows, rows, 256, model)
    assert bands.max() < widest


def share_undecided(problem: Problem, tables: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    """Of the pairs whose score by the tensor cores may be on either side of one of their query's thresholds."""
    coarse, exact, bands = tables
    undecided = np.zeros(coarse.shape, dtype=bool)
    for query, (begin, end) in enumerate(itertools.pairwise(problem.offsets.tolist())):
        for positive in problem.positives[begin:end].tolist():
            undecided[query] |= np.abs(coarse[query] - exact[query, positive]) <= bands[query]
    return float(undecided.mean())


@pytest.mark.parametrize("kind", KINDS)
def test_most_scores_of_unit_vectors_are_decided_by_the_tensor_cores(functions: ctypes.CDLL, kind: str) -> None:
    problem = adversarial_problem(6, "unit", Q=130, D=1000, H=64, G=4)
    rows = problem.queries.numpy(), problem.candidates.numpy()
    tables = scores_and_bands(functions, *rows, 256, TensorCores(kind=KINDS[kind], **COARSEST))
    assert share_undecided(problem, tables) < 0.1


def test_little_but_the_positives_is_undecided_where_nothing_is_rounded(functions: ctypes.CDLL) -> None:
    problem = random_problem(5, Q=150, D=700, H=48, G=4)
    rows = [t.bfloat16().float().numpy() for t in (problem.queries, problem.candidates)]
    tables = scores_and_bands(functions, *rows, 256, TensorCores(kind=KINDS["bf16"], **COARSEST))
    assert share_undecided(problem, tables) * 150 * 700 < 2 * len(problem.positives)


def assert_rescored_as_fp32(problem: Problem, kind: str, device: str = "model", *, cuts: tuple[int, ...] = ()) -> None:
    found, expected = count(replace(problem, precision=f"{kind}+rescore"), device, cuts=cuts), count(problem, "cpu")
    assert found == expected


@needs_cpu_ops
@in_the_model
@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1), family=st.sampled_from(FAMILIES), queries=st.integers(1, 140),
    candidates=st.integers(1, 300), width=st.integers(1, 40), groups=st.integers(0, 5),
    kind=st.sampled_from(list(KINDS)), group=st.sampled_from([4, 8, 16]), bits=st.sampled_from([22, 23, 25]),
    downwards=st.booleans(), cut=st.floats(0, 1),
)  # fmt: skip
def test_rescored_counts_equal_those_of_fp32_however_the_tensor_cores_round(
    seed: int, family: str, queries: int, candidates: int, width: int, groups: int, kind: str, group: int, bits: int,
    downwards: bool, cut: float,
) -> None:  # fmt: skip
    problem = adversarial_problem(seed, family, Q=queries, D=candidates, H=width, G=groups)
    with model.load().options(seed=seed, group=group, bits=bits, downwards=downwards):
        assert_rescored_as_fp32(problem, kind, cuts=(int(cut * candidates),))


@needs_cpu_ops
@in_the_model
@pytest.mark.parametrize("kind", KINDS)
def test_near_ties_that_the_tensor_cores_get_wrong_are_counted_right(functions: ctypes.CDLL, kind: str) -> None:
    problem = adversarial_problem(3, "near ties", Q=30, D=600, H=32, G=3)
    rows = problem.queries.numpy(), problem.candidates.numpy()
    coarse, exact, _ = scores_and_bands(functions, *rows, 256, TensorCores(kind=KINDS[kind], **COARSEST))
    assert (np.sign(np.diff(coarse)) != np.sign(np.diff(exact))).mean() > 0.1
    with model.load().options(group=4, bits=22, downwards=True):
        assert_rescored_as_fp32(problem, kind)


@needs_cpu_ops
@on_devices()
@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_queue_that_overflows_by_one_pair_leaves_the_counts_of_fp32(device: str, missing: int) -> None:
    """All candidates are equal: every pair is undecided. The queue has room for the positives and for 1 in 32 pairs."""
    num_queries, num_candidates = 132, 320
    room_beside = num_queries * num_candidates // 32
    owned = np.full(num_queries, num_candidates - room_beside // num_queries)
    owned[:missing] -= 1
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(owned)]))
    problem = adversarial_problem(7, "unit", Q=num_queries, D=num_candidates, H=16, G=2)
    equal = replace(
        problem, candidates=problem.candidates[:1].repeat(num_candidates, 1), offsets=offsets,
        positives=torch.arange(int(offsets[-1])) % num_candidates,
    )  # fmt: skip
    assert num_queries * num_candidates == len(equal.positives) + room_beside + missing
    assert_rescored_as_fp32(equal, "tf32", device)


@needs_cpu_ops
@on_devices()
def test_more_undecided_pairs_than_a_tile_notes_down_are_all_queued(device: str) -> None:
    problem = adversarial_problem(8, "integers", Q=128, D=256, H=2, G=2, most=20)
    scores = (problem.queries @ problem.candidates.T).numpy()
    tied = [np.isin(row, row[own]).sum() for row, own in zip(scores, owners(problem), strict=True)]
    assert sum(tied) > 1024
    assert_rescored_as_fp32(problem, "bf16", device)


def owners(problem: Problem) -> list[list[int]]:
    """Each query's positives."""
    return [problem.positives[b:e].tolist() for b, e in itertools.pairwise(problem.offsets.tolist())]


@needs_cpu_ops
@on_devices()
def test_more_positives_than_shared_memory_holds_are_counted_in_global_memory(device: str) -> None:
    problem = adversarial_problem(9, "unit", Q=128, D=300, H=24, G=3, most=40)
    assert len(problem.positives) > 1792
    assert_rescored_as_fp32(problem, "fp16", device)


@needs_cpu_ops
@on_devices()
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["queries", "candidates"])
def test_values_that_are_not_finite_count_as_in_fp32(device: str, where: str, bad: float) -> None:
    problem = adversarial_problem(10, "unit", Q=40, D=300, H=16, G=3)
    rows = getattr(problem, where).clone()
    rows[7, 3] = bad
    dirty = replace(problem, **{where: rows})
    counts, expected = count(replace(dirty, precision="tf32+rescore"), device), count(dirty, "cpu")
    for table, wanted in zip(counts.all()[:3], expected.all()[:3], strict=True):
        assert torch.equal(table.cpu(), wanted)
    assert counts.status[0] == expected.status[0]
