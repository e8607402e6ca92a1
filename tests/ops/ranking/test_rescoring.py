"""Rescoring on CUDA, emulated on the host: the device's own band, queue and counting code around a model of the tensor
cores, against the compiled CPU op. What only a GPU does is tested in `test_cuda_ranking`.

Q queries, D candidates, P positives, G groups, H embedding width.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.ops import backend
from hybatch.ops.precision import round_rows
from tests.ops.ranking.problems import (
    DTYPES,
    FAMILIES,
    Counts,
    Problem,
    adversarial_problem,
    adversarial_rows,
    count,
    pair_scores,
    random_problem,
)

REPOSITORY = Path(__file__).resolve().parents[3]
KINDS = {"tf32": 1, "bf16": 2, "fp16": 3}  # numbers of ElementKind

_missing = backend.why_missing("cpu")
needs_cpu_ops = pytest.mark.skipif(_missing is not None, reason=f"no compiled CPU ops: {_missing}")


class TensorCores(ctypes.Structure):
    """How the emulated tensor cores round and add; see tests/csrc/cuda/rescoring_emulation.cpp."""

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
def emulation(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    source = REPOSITORY / "tests" / "csrc" / "cuda" / "rescoring_emulation.cpp"
    library = tmp_path_factory.mktemp("rescoring") / "emulation.so"
    flags = ["-std=c++20", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra"]
    trapping = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    include = ["-I", str(REPOSITORY / "csrc")]
    subprocess.run([compiler, *flags, *trapping, *include, str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.CountRescored.restype = ctypes.c_int64
    return loaded


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def scores_and_bands(
    emulation: ctypes.CDLL, queries: np.ndarray, candidates: np.ndarray, tile_size: int, model: TensorCores
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[Q, D] float64 each: the tensor cores' scores, the fp32 chain's, and the bands."""
    tables = np.empty((3, len(queries), len(candidates)), dtype=np.float32)
    queries, candidates = (np.ascontiguousarray(rows, dtype=np.float32) for rows in (queries, candidates))
    emulation.ScoresAndBands(
        pointer(queries), len(queries), pointer(candidates), len(candidates), queries.shape[1], tile_size,
        ctypes.byref(model), *map(pointer, tables),
    )  # fmt: skip
    coarse, exact, bands = tables.astype(np.float64)
    return coarse, exact, bands


def count_rescored(
    emulation: ctypes.CDLL, problem: Problem, model: TensorCores, *, room: float = 1.0, cut: int = 0
) -> tuple[Counts, int]:
    """The counts of the blocks on either side of the cut, and how many pairs were pushed onto the queue.

    The queue has room for that share of all pairs.
    """
    counts = Counts.zeros(problem, "cpu")
    thresholds, queries = pair_scores(problem, "cpu"), problem.queries.float().contiguous()
    pushed = 0
    for first, end in ((0, cut), (cut, len(problem.candidates))):
        candidates, groups = problem.candidates[first:end].float().contiguous(), problem.groups[first:end].contiguous()
        pushed += emulation.CountRescored(
            pointer(queries.numpy()), len(queries), pointer(candidates.numpy()), len(candidates), queries.size(1),
            *(pointer(t.numpy()) for t in (thresholds, problem.positives, problem.offsets, groups)),
            ctypes.c_int64(first), ctypes.c_int64(problem.num_groups),
            ctypes.c_int64(int(room * len(queries) * len(candidates))), ctypes.byref(model), 1,
            *(pointer(t.numpy()) for t in counts.all()),
        )  # fmt: skip
    return counts, pushed


@pytest.mark.parametrize("kind", KINDS)
def test_the_device_rounds_to_nearest_as_torch_does(emulation: ctypes.CDLL, kind: str) -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 10**6, dtype=np.uint32)
    bits[::4] = (bits[::4] & np.uint32(0xFFFF0000)) | np.uint32(0x8000)  # ties of bf16
    bits[1::4] = (bits[1::4] & np.uint32(0xFFFFE000)) | np.uint32(0x1000)  # ties of fp16 and tf32
    bits[2::4] = (bits[2::4] & np.uint32(0x80FFFFFF)) + np.uint32(0x33000000)  # small and subnormal as fp16
    values = bits.view(np.float32)
    rounded = np.empty_like(values)
    emulation.RoundValues(pointer(values), ctypes.c_int64(len(values)), KINDS[kind], pointer(rounded))
    expected = round_rows(torch.from_numpy(values)[None], kind, "torch")[0].float().numpy()
    np.testing.assert_array_equal(rounded, expected)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1), families=st.tuples(st.sampled_from(FAMILIES), st.sampled_from(FAMILIES)),
    width=st.integers(1, 300), tile_size=st.sampled_from([1, 3, 256]), model=TENSOR_CORES,
)  # fmt: skip
def test_no_score_of_the_tensor_cores_lies_outside_its_band(
    emulation: ctypes.CDLL, seed: int, families: tuple[str, str], width: int, tile_size: int, model: TensorCores
) -> None:
    generator = np.random.default_rng(seed)
    queries, candidates = (adversarial_rows(family, 12, width, generator) for family in families)
    coarse, exact, bands = scores_and_bands(emulation, queries, candidates, tile_size, model)
    assert np.isfinite(exact).all()
    with np.errstate(invalid="ignore"):
        outside = np.isfinite(bands) & ~(np.abs(coarse - exact) <= bands)
    assert not outside.any(), (coarse[outside][0], exact[outside][0], bands[outside][0])


@pytest.mark.parametrize(("kind", "widest"), [("tf32", 2.0**-10), ("fp16", 2.0**-10), ("bf16", 2.0**-7)])
@pytest.mark.parametrize("width", [64, 384, 1024])
def test_the_band_of_unit_vectors_is_as_narrow_as_their_rounding(
    emulation: ctypes.CDLL, width: int, kind: str, widest: float
) -> None:
    rows = adversarial_rows("unit", 20, width, np.random.default_rng(0))
    model = TensorCores(kind=KINDS[kind], **COARSEST)
    _, _, bands = scores_and_bands(emulation, rows, rows, 256, model)
    assert bands.max() < widest


@needs_cpu_ops
@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1), family=st.sampled_from(FAMILIES), queries=st.integers(1, 140),
    candidates=st.integers(1, 300), width=st.integers(1, 40), groups=st.integers(0, 5), model=TENSOR_CORES,
    room=st.sampled_from([1.0, 1.0, 0.05]), cut=st.floats(0, 1),
)  # fmt: skip
def test_rescored_counts_equal_those_of_fp32(
    emulation: ctypes.CDLL, seed: int, family: str, queries: int, candidates: int, width: int, groups: int,
    model: TensorCores, room: float, cut: float,
) -> None:  # fmt: skip
    problem = adversarial_problem(seed, family, Q=queries, D=candidates, H=width, G=groups)
    counts, _ = count_rescored(emulation, problem, model, room=room, cut=int(cut * candidates))
    assert counts == count(problem, "cpu")


@needs_cpu_ops
@pytest.mark.parametrize("kind", KINDS)
def test_near_ties_that_the_tensor_cores_get_wrong_are_counted_right(emulation: ctypes.CDLL, kind: str) -> None:
    problem = adversarial_problem(3, "near ties", Q=30, D=600, H=32, G=3)
    model = TensorCores(kind=KINDS[kind], **COARSEST)
    coarse, exact, _ = scores_and_bands(emulation, problem.queries.numpy(), problem.candidates.numpy(), 256, model)
    assert (np.sign(np.diff(coarse)) != np.sign(np.diff(exact))).mean() > 0.1
    counts, _ = count_rescored(emulation, problem, model)
    assert counts == count(problem, "cpu")


@needs_cpu_ops
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_sixteen_bit_embeddings_are_scored_by_the_chain_of_their_values(emulation: ctypes.CDLL, dtype: str) -> None:
    exact = random_problem(5, Q=150, D=700, H=48, G=4)
    problem = replace(exact, queries=exact.queries.to(DTYPES[dtype]), candidates=exact.candidates.to(DTYPES[dtype]))
    counts, pushed = count_rescored(emulation, problem, TensorCores(kind=KINDS[dtype], **COARSEST))
    assert counts == count(problem, "cpu")
    assert pushed < 2 * len(problem.positives)  # nothing is lost by rounding: little is undecided but the positives


@needs_cpu_ops
@pytest.mark.parametrize("kind", KINDS)
def test_most_scores_of_unit_vectors_are_decided_by_the_tensor_cores(emulation: ctypes.CDLL, kind: str) -> None:
    problem = adversarial_problem(6, "unit", Q=130, D=1000, H=64, G=4)
    counts, pushed = count_rescored(emulation, problem, TensorCores(kind=KINDS[kind], **COARSEST))
    assert counts == count(problem, "cpu")
    assert len(set(problem.positives.tolist())) < pushed < 0.1 * 130 * 1000


@needs_cpu_ops
@pytest.mark.parametrize("missing_places", [1, 130 * 400 - 1, 130 * 400])
def test_a_queue_that_overflows_leaves_the_counts_of_fp32(emulation: ctypes.CDLL, missing_places: int) -> None:
    """All candidates are equal: every pair is undecided. One tile holds more of them than it can note down."""
    problem = adversarial_problem(7, "unit", Q=130, D=400, H=16, G=2)
    owners = replace(problem, offsets=torch.arange(131), positives=torch.arange(130))
    equal = replace(owners, candidates=problem.candidates[:1].repeat(400, 1))
    counts, pushed = count_rescored(
        emulation, equal, TensorCores(kind=KINDS["tf32"], **COARSEST), room=1 - (missing_places - 0.5) / 52000
    )
    assert pushed == 130 * 400
    assert counts == count(equal, "cpu")


@needs_cpu_ops
def test_more_undecided_pairs_than_a_tile_notes_down_are_all_queued(emulation: ctypes.CDLL) -> None:
    problem = adversarial_problem(8, "integers", Q=128, D=256, H=2, G=2, most=3)
    counts, pushed = count_rescored(emulation, problem, TensorCores(kind=KINDS["bf16"], **COARSEST))
    assert pushed > 1024
    assert counts == count(problem, "cpu")


@needs_cpu_ops
def test_more_positives_than_shared_memory_holds_are_counted_in_global_memory(emulation: ctypes.CDLL) -> None:
    problem = adversarial_problem(9, "unit", Q=128, D=300, H=24, G=3, most=40)
    assert len(problem.positives) > 1792
    counts, _ = count_rescored(emulation, problem, TensorCores(kind=KINDS["fp16"], **COARSEST))
    assert counts == count(problem, "cpu")


@needs_cpu_ops
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["queries", "candidates"])
def test_values_that_are_not_finite_count_as_in_fp32(emulation: ctypes.CDLL, where: str, bad: float) -> None:
    problem = adversarial_problem(10, "unit", Q=40, D=300, H=16, G=3)
    rows = getattr(problem, where).clone()
    rows[7, 3] = bad
    dirty = replace(problem, **{where: rows})
    counts, _ = count_rescored(emulation, dirty, TensorCores(kind=KINDS["tf32"], **COARSEST))
    expected = count(dirty, "cpu")
    for table, wanted in zip(counts.all()[:3], expected.all()[:3], strict=True):
        assert torch.equal(table, wanted)
    assert counts.status[0] == expected.status[0]


@pytest.mark.slow
def test_threads_that_share_a_tile_do_not_race(tmp_path: Path) -> None:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    source, program = REPOSITORY / "tests" / "csrc" / "cuda" / "rescoring_threads.cpp", tmp_path / "threads"
    flags = ["-std=c++20", "-O1", "-g", "-fsanitize=thread", "-Wall", "-Wextra", "-pthread"]
    subprocess.run([compiler, *flags, "-I", str(REPOSITORY / "csrc"), str(source), "-o", str(program)], check=True)
    result = subprocess.run([str(program)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
