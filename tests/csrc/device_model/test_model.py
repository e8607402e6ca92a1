"""The device model notices what it is there to notice, and gives the same results by every schedule."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from tests.csrc.device_model import model
from tests.csrc.device_model.build import REPOSITORY, build
from tests.ops.contrastive.test_extension import backward, forward, random_weights
from tests.ops.contrastive.test_extension import random_problem as random_loss
from tests.ops.devices import marks
from tests.ops.ranking.problems import Counts, Problem, count, pair_scores, random_problem

pytestmark = marks("model")
SEEDS = range(1, 6)


@dataclass(frozen=True)
class Mutant:
    """A kernel that is wrong, and a precision by which it is called."""

    file: str
    before: str
    after: str
    precision: str


MUTANTS = {
    "no barrier between counting a tile and adding up its counts": Mutant(
        "ranking/cuda/hopper_count.cu",
        "    sm90::ConsumerBarrier();\n    shared.counts.Flush", "    shared.counts.Flush", "bf16",
    ),
    "no barrier between a slab's arrival and its product": Mutant(
        "ranking/cuda/generic_count.cu",
        "    CopyAsyncWait();\n    __syncthreads();  //", "    CopyAsyncWait();  //", "fp32",
    ),
    "a slab is read before its copies have been waited for": Mutant(
        "ranking/cuda/generic_count.cu",
        "    CopyAsyncWait();\n    __syncthreads();  //", "    __syncthreads();  //", "fp32",
    ),
    "a stage is given back before it has been read": Mutant(
        "common/cuda/hopper/tiles.cuh", "    ProductsWait<1>();", "    ProductsWait<2>();", "bf16"
    ),
    "a stage is filled without waiting for its readers": Mutant(
        "common/cuda/hopper/tiles.cuh", "place.parity ^ 1);", "1);", "bf16"
    ),
    "a stage expects too few bytes": Mutant(
        "common/cuda/hopper/tiles.cuh", "ArriveExpecting(full, kStageBytes)", "ArriveExpecting(full, kStageBytes / 2)",
        "bf16",
    ),
    "a stage expects too many bytes": Mutant(
        "common/cuda/hopper/tiles.cuh", "ArriveExpecting(full, kStageBytes)", "ArriveExpecting(full, kStageBytes + 16)",
        "bf16",
    ),
    "the swizzle of what threads store is another than the tensor cores'": Mutant(
        "common/cuda/hopper/layout.h", "(piece ^ (row % 8))", "(piece ^ (row % 4))", "tf32"
    ),
    "a descriptor's stride is half of what it should be": Mutant(
        "common/cuda/hopper/layout.h", "kStrideBytes = 1024", "kStrideBytes = 512", "bf16"
    ),
    "results are taken from the wrong registers": Mutant(
        "common/cuda/hopper/layout.h", "(accumulator / 2 % 2) * 8", "(accumulator / 4 % 2) * 8", "bf16"
    ),
    "the tensor cores are not told of ordinary stores": Mutant(
        "ranking/cuda/hopper_pair_scores.cu", "    sm90::FenceStoresForTensorCores();\n", "", "tf32"
    ),
    "registers are used before a fence": Mutant(
        "common/cuda/hopper/tiles.cuh", "    ProductsBegin();\n", "", "bf16"
    ),
}  # fmt: skip


def small_problem(precision: str) -> Problem:
    """Of several query blocks, candidate tiles and rounds through the ring; every tile is of one group."""
    problem = random_problem(3, Q=150, D=1200, H=160, G=3, precision=precision)
    return replace(problem, groups=(torch.arange(1200) // 512).int())


def differs(mutant: model.DeviceModel, problem: Problem, expected: tuple[torch.Tensor, Counts]) -> bool:
    for seed in SEEDS:
        try:
            with mutant.options(seed=seed):
                found = pair_scores(problem, "model"), count(problem, "model")
        except RuntimeError:
            return True
        if not torch.equal(found[0], expected[0]) or found[1] != expected[1]:
            return True
    return False


@pytest.fixture(scope="module")
def csrc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, from which libraries are built in the folder beside it."""
    copy = tmp_path_factory.mktemp("mutants") / "csrc"
    shutil.copytree(REPOSITORY / "csrc", copy)
    return copy


@pytest.fixture
def mutate(csrc: Path) -> Callable[[Mutant], model.DeviceModel]:
    def build_mutant(mutant: Mutant) -> model.DeviceModel:
        file = csrc / mutant.file
        original = (REPOSITORY / "csrc" / mutant.file).read_text()
        assert original.count(mutant.before) == 1, f"{mutant.file} has changed: {mutant.before}"
        file.write_text(original.replace(mutant.before, mutant.after))
        library = build("plain", csrc, csrc.parent / "build", rooms=("common", "ranking"))
        file.write_text(original)
        own = library.with_name(f"mutant-{len(list(library.parent.glob('mutant-*')))}.so")
        shutil.copy(library, own)  # a library that is loaded cannot be built anew
        return model.DeviceModel(own)

    return build_mutant


def test_a_kernel_with_one_mistake_is_noticed(
    mutate: Callable[[Mutant], model.DeviceModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One test for all: they share most of what is compiled."""
    unnoticed = []
    for name, mutant in MUTANTS.items():
        problem = small_problem(mutant.precision)
        expected = pair_scores(problem, "model"), count(problem, "model")
        wrong = mutate(mutant)
        with monkeypatch.context() as patch:
            patch.setattr(model, "load", lambda wrong=wrong: wrong)
            if not differs(wrong, problem, expected):
                unnoticed.append(name)
    assert unnoticed == []


@pytest.mark.parametrize("precision", ["fp32", "bf16", "tf32+rescore"])
def test_no_schedule_changes_a_count(precision: str) -> None:
    problem = random_problem(4, Q=140, D=600, H=96, G=3, precision="bf16" if precision == "bf16" else "fp32")
    problem = replace(problem, precision=precision)
    expected = count(problem, "model")
    for seed in SEEDS:
        with model.load().options(seed=seed, multiprocessors=seed):
            assert count(problem, "model") == expected


@pytest.mark.parametrize("kernels", ["generic", "hopper"])
def test_no_schedule_changes_a_bit_of_a_loss(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_CUDA_KERNELS", kernels)
    problem = random_loss(5, Q=200, D=300, H=64, scale=20.0)
    problem = replace(problem, queries=problem.queries.bfloat16(), candidates=problem.candidates.bfloat16())
    weights = random_weights(problem, 1)
    expected = (*forward(problem, "model"), *backward(problem, weights, "model"))
    for seed in SEEDS:
        with model.load().options(seed=seed):
            found = (*forward(problem, "model"), *backward(problem, weights, "model"))
        assert all(torch.equal(mine, other) for mine, other in zip(found, expected, strict=True))


def test_tensor_cores_that_cut_off_score_differently() -> None:
    problem = random_problem(6, Q=40, D=300, H=256, G=1, precision="bf16")
    exact = pair_scores(problem, "model")
    with model.load().options(group=4, bits=22, downwards=True):
        cut = pair_scores(problem, "model")
    assert 0 < float((cut - exact).abs().max()) < 1e-3
    assert float((cut - exact).mean()) < 0  # downwards


def test_another_device_takes_the_kernels_for_every_architecture() -> None:
    problem = random_problem(7, Q=40, D=300, H=64, G=2, precision="bf16")
    with model.load().options(capability=80):
        counts = count(problem, "model")
    assert counts == count(replace(problem, precision="fp32"), "cpu")


FEW_CASES = [
    "tests/ops/ranking/test_cuda.py::test_rows_may_begin_at_any_address",
    "tests/ops/ranking/test_cuda.py::test_nothing_is_counted_where_something_is_empty",
    "tests/ops/ranking/test_cuda.py::test_blocks_and_repetition_change_no_count[bf16-model]",
    "tests/ops/ranking/test_cuda.py::test_rescoring_takes_sixteen_bit_embeddings_as_they_are[dtype0-bf16+rescore-model]",
    "tests/ops/ranking/test_cuda.py::test_what_overflows_the_rescoring_queue_is_counted_in_fp32[tf32+rescore-model]",
    "tests/ops/ranking/test_rescoring.py::test_more_undecided_pairs_than_a_tile_notes_down_are_all_queued",
    "tests/ops/contrastive/test_cuda.py::test_loss_and_gradients_are_those_of_the_cpu",
    "tests/ops/contrastive/test_hopper.py::test_a_row_with_nothing_but_its_positive_has_no_loss",
    "tests/ops/contrastive/test_hopper.py::test_what_they_cannot_serve_is_refused_by_name_and_left_to_the_others",
]


@pytest.mark.skipif("HYBATCH_DEVICE_MODEL" in os.environ, reason="runs under a sanitizer already")
def test_some_cases_run_clean_under_the_address_sanitizer() -> None:
    """No access outside a tensor, a piece of a workspace or a block's shared memory."""
    # The sanitizer looks for the library of exceptions when it is loaded: it must be there then.
    libraries = [
        subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    environment = os.environ | {
        "HYBATCH_DEVICE_MODEL": "address",
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
    }
    build("address")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "device_model", *FEW_CASES]
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert " passed" in result.stdout
