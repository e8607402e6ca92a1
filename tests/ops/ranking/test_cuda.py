"""The CUDA ops against the CPU op, a brute-force count and float64 products: in the device model, which executes their
sources here, and on a real device where torch finds one.

Shapes: Q queries, D candidates, P positives, G groups, H embedding width.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybatch.ops import rank_counts
from hybatch.ops.precision import round_rows
from hybatch.ops.ranking.torch_backend import BAD_CANDIDATES, BAD_QUERIES, OVERFLOWS
from tests.ops.devices import on_devices, on_devices_with, on_gpu, ops_on, put
from tests.ops.ranking.problems import (
    DTYPES,
    FAMILIES,
    Problem,
    adversarial_problem,
    all_scores,
    at_another_address,
    brute_force,
    count,
    moved,
    pair_scores,
    random_problem,
)

REPOSITORY = Path(__file__).resolve().parents[3]
STEP = {"fp32": 2.0**-24, "tf32": 2.0**-11, "bf16": 2.0**-8, "fp16": 2.0**-11}  # of the inputs
PRECISIONS = list(DTYPES)
RESCORED = ["tf32+rescore", "bf16+rescore", "fp16+rescore"]


# Tiles are 128 x 128 and 128 x 256, slabs 64 and 128 bytes of a row: sizes around their multiples.
SHAPES: list[dict[str, Any]] = [
    {"Q": 1, "D": 1, "H": 1, "G": 1},
    {"Q": 3, "D": 300, "H": 7, "G": 3},
    {"Q": 127, "D": 129, "H": 33, "G": 1},
    {"Q": 130, "D": 700, "H": 64, "G": 4},
    {"Q": 129, "D": 513, "H": 100, "G": 2, "most": 60},
    {"Q": 260, "D": 2000, "H": 200, "G": 11, "grouped": False},
    {"Q": 50, "D": 400, "H": 96, "G": 300},
    {"Q": 40, "D": 257, "H": 48, "G": 0},
    {"Q": 64, "D": 1500, "H": 768, "G": 5},
]


def in_model(shape: dict[str, Any]) -> bool:
    return int(shape["Q"] * shape["D"] * shape["H"]) < 10**7


@on_devices()
@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [0, 1, 7, 31, 32, 33, 384, 1000])
def test_fp32_thresholds_are_bitwise_the_cpus(device: str, width: int, dtype: torch.dtype, gathered: bool) -> None:
    problem = random_problem(width, Q=70, D=90, H=width, G=1)
    problem = replace(problem, queries=problem.queries.to(dtype), candidates=problem.candidates.to(dtype))
    ours, expected = (pair_scores(problem, place, gathered=gathered) for place in (device, "cpu"))
    assert ours.cpu().numpy().tobytes() == expected.numpy().tobytes()


@pytest.mark.parametrize("integers", [False, True])
@on_devices_with("shape", SHAPES, in_model=in_model)
def test_fp32_counts_equal_the_cpus(device: str, shape: dict[str, Any], integers: bool) -> None:
    problem = random_problem(1, integers=integers, **shape)
    assert count(problem, device) == count(problem, "cpu")


@on_devices()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [5, 64, 129])
def test_sixteen_bit_inputs_take_the_same_chain(device: str, width: int, dtype: torch.dtype) -> None:
    problem = random_problem(2, Q=140, D=600, H=width, G=3)
    problem = replace(problem, queries=problem.queries.to(dtype), candidates=problem.candidates.to(dtype))
    assert count(problem, device) == count(problem, "cpu")


@pytest.mark.parametrize("precision", PRECISIONS)
@on_devices_with("shape", SHAPES, in_model=in_model)
def test_candidates_meet_the_scores_that_thresholds_are_made_of(
    device: str, shape: dict[str, Any], precision: str
) -> None:
    problem = random_problem(3, precision=precision, **shape)
    assert count(problem, device) == brute_force(problem, device)


@on_devices()
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("width", [1, 8, 32, 65, 768])
def test_scores_are_products_of_the_rounded_inputs(device: str, width: int, precision: str) -> None:
    problem = random_problem(4, Q=70, D=300, H=width, G=1, precision=precision)
    queries, candidates = problem.queries.double().numpy(), problem.candidates.double().numpy()
    bound = np.abs(queries) @ np.abs(candidates).T
    gap = np.abs(all_scores(problem, device) - queries @ candidates.T)
    inputs = 2.2 * STEP["tf32"] if precision == "tf32" else 0.0  # the others are rounded already
    assert (gap <= bound * (inputs + 4 * width * 2.0**-23)).all(), (gap / bound).max()


@on_devices()
def test_tf32_inputs_are_rounded_to_nearest_with_ties_to_even(device: str) -> None:
    generator = np.random.default_rng(5)
    bits = generator.integers(0, 2**32, 4096, dtype=np.uint32)
    bits[::3] = (bits[::3] & ~np.uint32(0x1FFF)) | 0x1000  # ties
    values = bits.view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) > 1e-30) & (np.abs(values) < 1e30)]
    problem = replace(
        random_problem(5, Q=1, D=len(values), H=1, G=1, precision="tf32"),
        queries=torch.ones(1, 1), candidates=torch.from_numpy(values)[:, None],
        positives=torch.arange(len(values)), offsets=torch.tensor([0, len(values)]),
    )  # fmt: skip
    raw = values.view(np.uint32)
    expected = ((raw + 0xFFF + ((raw >> 13) & 1)) & ~np.uint32(0x1FFF)).view(np.float32)
    np.testing.assert_array_equal(pair_scores(problem, device).cpu().numpy(), expected)
    assert count(problem, device).status.tolist() == [len(values), 0, 0, 0]


@pytest.mark.parametrize("precision", PRECISIONS)
@on_devices_with("shape", SHAPES, in_model=in_model)
def test_integer_embeddings_count_alike_in_every_precision(device: str, shape: dict[str, Any], precision: str) -> None:
    exact = random_problem(6, integers=True, **shape)
    rounded = replace(
        exact, queries=exact.queries.to(DTYPES[precision]), candidates=exact.candidates.to(DTYPES[precision]),
        precision=precision,
    )  # fmt: skip
    assert count(rounded, device) == count(exact, "cpu")


@on_devices()
@pytest.mark.parametrize("precision", PRECISIONS)
def test_blocks_and_repetition_change_no_count(device: str, precision: str) -> None:
    problem = random_problem(7, Q=200, D=3000, H=128, G=6, precision=precision)
    whole = count(problem, device)
    assert whole.status.tolist() == [len(problem.positives), 0, 0, 0]
    for cuts in ((), (), (1,), (128, 129, 1000), (2999,)):
        assert count(problem, device, cuts=cuts) == whole


@on_devices()
@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_may_begin_at_any_address(device: str, precision: str) -> None:
    problem = random_problem(8, Q=140, D=600, H=64, G=3, precision=precision)
    queries, candidates = (at_another_address(rows, device) for rows in (problem.queries, problem.candidates))
    elsewhere = replace(problem, queries=queries, candidates=candidates)
    assert count(elsewhere, device) == count(problem, device)


@on_devices()
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("empty", ["Q", "D", "H", "G", "most"])
def test_nothing_is_counted_where_something_is_empty(device: str, empty: str, precision: str) -> None:
    shape: dict[str, Any] = {"Q": 10, "D": 200, "H": 16, "G": 2, "most": 3} | {empty: 0}
    problem = random_problem(9, precision=precision, **shape)
    counts = count(problem, device)
    assert counts.status.tolist() == [len(problem.positives), 0, 0, 0]
    assert int(counts.greater.sum()) == 0
    if empty == "H":  # all scores are zero: all candidates tie
        exact = replace(problem, queries=problem.queries.float(), candidates=problem.candidates.float())
        assert counts == count(replace(exact, precision="fp32"), "cpu")


@on_devices()
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_query_that_is_not_finite_is_reported_and_disturbs_no_other(device: str, bad: float, precision: str) -> None:
    problem = random_problem(10, Q=150, D=700, H=40, G=3, precision=precision)
    clean = count(problem, device)
    queries = problem.queries.clone()
    queries[77, 13] = bad
    dirty = replace(problem, queries=queries)
    counts, thresholds = count(dirty, device), pair_scores(dirty, device).cpu()
    own = slice(int(problem.offsets[77]), int(problem.offsets[78]))
    others = torch.ones(len(problem.positives), dtype=torch.bool)
    others[own] = False
    assert not thresholds[own].isfinite().any()
    assert thresholds[others].isfinite().all()
    assert counts.status[BAD_QUERIES] > 0
    assert counts.status[BAD_CANDIDATES:].tolist() == [0, 0]
    for table, expected in zip(counts.all()[:3], clean.all()[:3], strict=True):
        assert torch.equal(table.cpu()[others], expected.cpu()[others])


@on_devices()
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_candidate_that_is_not_finite_is_reported(device: str, bad: float, precision: str) -> None:
    problem = random_problem(11, Q=20, D=700, H=40, G=3, precision=precision)
    problem.candidates[555, 39] = bad
    status = count(problem, device).status.tolist()
    assert status[BAD_CANDIDATES] > 0
    assert (status[BAD_QUERIES], status[OVERFLOWS]) == (0, 0)


@on_devices()
@pytest.mark.parametrize(("scale", "overflows"), [(2.0**62, False), (2.0**66, True)])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_scores_that_may_overflow_are_reported(device: str, precision: str, scale: float, overflows: bool) -> None:
    rows = torch.eye(8, dtype=torch.float32).to(DTYPES[precision]) * scale
    problem = Problem(
        rows, rows, torch.zeros(8, dtype=torch.int32), torch.arange(8), torch.arange(9), num_groups=1,
        precision=precision,
    )  # fmt: skip
    assert (count(problem, device).status[OVERFLOWS] > 0) == overflows


@on_devices()
def test_a_positive_row_out_of_range_scores_nan(device: str) -> None:
    problem = random_problem(12, Q=5, D=20, H=8, G=1, most=3)
    for precision in PRECISIONS:
        rounded = [put(t.to(DTYPES[precision]), device) for t in (problem.queries, problem.candidates)]
        for outside in (-1, 20):
            rows = problem.positives.clone()
            rows[1] = outside
            offsets, rows = put(problem.offsets, device), put(rows, device)
            scores = ops_on(device).pair_scores(*rounded, offsets, precision, rows)
            assert scores.isnan().nonzero().flatten().tolist() == [1]


@on_gpu()
@pytest.mark.parametrize("precision", PRECISIONS)
def test_work_is_queued_on_the_current_stream(precision: str) -> None:
    problem = random_problem(13, Q=130, D=900, H=64, G=3, precision=precision)
    expected = count(problem, "cuda")
    late = moved(problem, "cuda")
    source = late.candidates.clone()
    late.candidates.zero_()
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late.candidates.copy_(source)  # too late for work that is queued on another stream
        counts = count(late, "cuda")
    stream.synchronize()
    assert counts == expected


@on_gpu()
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_captured_graph_counts_again_at_every_replay(precision: str) -> None:
    problem = random_problem(14, Q=130, D=900, H=60, G=3, precision=precision)
    expected = count(problem, "cuda")
    on_device = moved(problem, "cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        counts = count(on_device, "cuda")
    for _ in range(2):
        for tensor in counts.all():
            tensor.fill_(7)
        graph.replay()
        torch.cuda.synchronize()
        assert counts == expected


@on_gpu()
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs a second CUDA device")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_tensors_device_counts_whatever_the_current_one(precision: str) -> None:
    problem = random_problem(15, Q=130, D=900, H=64, G=3, precision=precision)
    assert count(problem, "cuda:1") == count(problem, "cuda:0")
    assert torch.cuda.current_device() == 0


@on_gpu()
def test_errors_name_the_argument() -> None:
    problem = random_problem(16, Q=4, D=9, H=8, G=2)
    with pytest.raises(RuntimeError, match="precision must be"):
        count(replace(problem, precision="fp8"), "cuda")
    with pytest.raises(RuntimeError, match="dtype of precision bf16"):
        count(replace(problem, precision="bf16"), "cuda")
    queries, candidates, offsets = (t.cuda() for t in (problem.queries, problem.candidates, problem.offsets))
    with pytest.raises(RuntimeError, match="positive_rows must be on the device"):
        torch.ops.hybatch.pair_scores(queries, candidates, offsets, "fp32", problem.positives)
    with pytest.raises(RuntimeError, match="offsets must have size"):
        torch.ops.hybatch.pair_scores(queries, candidates, offsets[1:], "fp32", problem.positives.cuda())


@on_gpu()
@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
@pytest.mark.parametrize("width", [8, 100, 768, 4096])
def test_tensor_cores_add_no_worse_than_the_band_of_rescoring_assumes(width: int, precision: str) -> None:
    """The third bound of csrc/ranking/cuda/score_band.h, on inputs that are exact in the precision."""
    cuts = (1.5 * width + 1.5) * 2.0**-22
    for family in FAMILIES:
        problem = adversarial_problem(23, family, Q=40, D=200, H=width, G=1)
        queries, candidates = (round_rows(t, precision, "torch") for t in (problem.queries, problem.candidates))
        scores = all_scores(replace(problem, queries=queries, candidates=candidates, precision=precision), "cuda")
        rows = queries.double().numpy(), candidates.double().numpy()
        norms = [np.linalg.norm(r, axis=1) for r in rows]
        bound = cuts / (1 - cuts) * np.outer(*norms) + 2.0**-125 * (width + 1) * (1 + np.add.outer(*norms))
        finite = np.isfinite(bound)
        gaps = np.abs(
            scores - np.where(np.isfinite(rows[0]), rows[0], 0) @ np.where(np.isfinite(rows[1]), rows[1], 0).T
        )
        assert (gaps <= bound)[finite].all(), (family, (gaps / bound)[finite].max())


@pytest.mark.parametrize("rescored", RESCORED)
@on_devices_with("shape", SHAPES, in_model=in_model)
def test_rescoring_gives_the_counts_of_fp32(device: str, shape: dict[str, Any], rescored: str) -> None:
    problem = random_problem(17, **shape)
    assert count(replace(problem, precision=rescored), device) == count(problem, "cpu")


@on_devices()
@pytest.mark.parametrize("rescored", RESCORED)
@pytest.mark.parametrize("family", FAMILIES)
def test_rescoring_decides_near_ties_as_fp32_does(device: str, family: str, rescored: str) -> None:
    problem = adversarial_problem(19, family, Q=130, D=1500, H=96, G=5)
    assert count(replace(problem, precision=rescored), device) == count(problem, "cpu")
    assert count(replace(problem, precision=rescored), device, cuts=(1, 256, 1000)) == count(problem, "cpu")


@on_devices()
@pytest.mark.parametrize("rescored", RESCORED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rescoring_takes_sixteen_bit_embeddings_as_they_are(device: str, dtype: torch.dtype, rescored: str) -> None:
    for width in (61, 64):  # with and without a copy
        problem = random_problem(20, Q=140, D=900, H=width, G=3)
        problem = replace(problem, queries=problem.queries.to(dtype), candidates=problem.candidates.to(dtype))
        assert count(replace(problem, precision=rescored), device) == count(problem, "cpu")


def undecidable_problem() -> Problem:
    """All candidates are equal: the queue overflows."""
    problem = random_problem(21, Q=200, D=2000, H=64, G=3)
    return replace(problem, candidates=problem.candidates[:1].repeat(2000, 1))


@on_devices()
@pytest.mark.parametrize("rescored", RESCORED)
def test_what_overflows_the_rescoring_queue_is_counted_in_fp32(device: str, rescored: str) -> None:
    problem = undecidable_problem()
    assert count(replace(problem, precision=rescored), device) == count(problem, "cpu")


@on_gpu()
@pytest.mark.parametrize("undecidable", [False, True])
@pytest.mark.parametrize("rescored", RESCORED)
def test_a_captured_graph_rescores_what_its_inputs_then_hold(rescored: str, undecidable: bool) -> None:
    """Whether the queue overflows is decided at every replay, not at capture."""
    captured, replayed = random_problem(21, Q=200, D=2000, H=64, G=3), undecidable_problem()
    if undecidable:
        captured, replayed = replayed, captured
    on_device = moved(replace(captured, precision=rescored), "cuda")
    count(on_device, "cuda")  # what is loaded at the first call cannot be captured
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        counts = count(on_device, "cuda")
    on_device.candidates.copy_(replayed.candidates)
    for _ in range(2):
        graph.replay()
        torch.cuda.synchronize()
        assert counts == count(replayed, "cpu")


@on_devices()
@pytest.mark.parametrize("rescored", RESCORED)
def test_rescoring_leaves_the_queries_beside_one_that_is_not_finite_alone(device: str, rescored: str) -> None:
    problem = random_problem(22, Q=150, D=700, H=40, G=3)
    problem.queries[77, 13] = float("nan")
    assert count(replace(problem, precision=rescored), device) == count(problem, device)


@on_gpu()
@pytest.mark.parametrize("precision", PRECISIONS)
def test_rank_counts_of_a_whole_task_meet_every_positive(precision: str) -> None:
    problem = random_problem(18, Q=1300, D=6000, H=384, G=11, most=11)
    groups = problem.groups.clamp(0, 10)
    on_device = moved(replace(problem, groups=groups), "cuda")
    counts = rank_counts(
        on_device.queries, on_device.candidates, on_device.groups, on_device.positives, on_device.offsets, 11,
        precision=precision, backend="cuda",
    )  # fmt: skip
    # It has raised unless every positive met its own score.
    assert counts.backend == "cuda"
    assert int(counts.rank_overall().max()) <= 6000


def test_the_cuda_library_loads_and_registers_both_ops_without_a_gpu() -> None:
    """Every symbol must resolve at once, also next to a torch without CUDA."""
    libraries = [REPOSITORY / "hybatch" / name for name in ("_cpu.so", "_cuda.so")]
    for library in libraries:
        if not library.exists():
            pytest.skip(f"{library} is not there")
    program = """if True:
        import sys, torch
        for library in sys.argv[1:]:
            torch.ops.load_library(library)
        for op in ("pair_scores", "count_above_"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(f"hybatch::{op}", "CUDA"), op
    """
    environment = os.environ | {"LD_BIND_NOW": "1"}
    subprocess.run([sys.executable, "-c", program, *map(str, libraries)], check=True, env=environment)
