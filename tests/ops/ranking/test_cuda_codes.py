"""The CUDA ops on codes against the CPU op, in the device model and on a real device where torch finds one.

Shapes: Q queries, D candidates, P positives, G groups, H embedding width, of bits in bytes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.ops.devices import on_devices, on_devices_with, ops_on, put
from tests.ops.ranking.problems import Problem, at_another_address, count, pair_scores, random_problem
from tests.ops.ranking.test_cuda import SHAPES, in_model

KINDS = {"int8": torch.int8, "bits": torch.uint8}


def coded_problem(seed: int, kind: str, *, largest: int = 127, **shape: Any) -> Problem:
    problem = random_problem(seed, **shape)
    generator = np.random.default_rng(seed)

    def codes(count: int) -> Tensor:
        lowest, highest = (-largest, largest) if kind == "int8" else (0, min(2 * largest, 255))
        values = torch.from_numpy(generator.integers(lowest, highest + 1, (count, shape["H"])))
        return values.to(KINDS[kind])

    return replace(problem, queries=codes(shape["Q"]), candidates=codes(shape["D"]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("largest", [1, 127])
@on_devices_with("shape", SHAPES, in_model=in_model)
def test_codes_count_as_on_the_cpu(device: str, shape: dict[str, Any], kind: str, largest: int) -> None:
    problem = coded_problem(1, kind, largest=largest, **shape)
    assert count(problem, device) == count(problem, "cpu")


@on_devices()
@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [0, 1, 7, 32, 48, 384, 1000])
def test_thresholds_of_codes_are_the_cpus(device: str, width: int, kind: str, gathered: bool) -> None:
    problem = coded_problem(width, kind, Q=70, D=90, H=width, G=1)
    ours, expected = (pair_scores(problem, place, gathered=gathered).cpu() for place in (device, "cpu"))
    assert torch.equal(ours, expected)


@on_devices()
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_change_no_count_of_codes(device: str, kind: str) -> None:
    problem = coded_problem(7, kind, largest=2, Q=150, D=900, H=48, G=6)
    whole = count(problem, device)
    assert whole.status.tolist() == [len(problem.positives), 0, 0, 0]
    for cuts in ((1,), (128, 129, 700), (899,)):
        assert count(problem, device, cuts=cuts) == whole


@on_devices()
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_codes_may_begin_at_any_address(device: str, kind: str) -> None:
    problem = coded_problem(8, kind, Q=140, D=500, H=64, G=3)
    queries, candidates = (at_another_address(rows, device) for rows in (problem.queries, problem.candidates))
    elsewhere = replace(problem, queries=queries, candidates=candidates)
    assert count(elsewhere, device) == count(problem, "cpu")


@on_devices()
@pytest.mark.parametrize("kind", KINDS)
def test_a_positive_row_of_codes_out_of_range_scores_nan(device: str, kind: str) -> None:
    problem = coded_problem(12, kind, Q=5, D=20, H=8, G=1, most=3)
    tensors = [put(tensor, device) for tensor in (problem.queries, problem.candidates, problem.offsets)]
    for outside in (-1, 20):
        rows = problem.positives.clone()
        rows[1] = outside
        scores = ops_on(device).pair_scores(*tensors, "fp32", put(rows, device))
        assert scores.isnan().nonzero().flatten().tolist() == [1]


@on_devices()
@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16+rescore"])
def test_codes_are_counted_in_no_other_precision(device: str, precision: str) -> None:
    problem = replace(coded_problem(13, "int8", Q=5, D=20, H=8, G=1), precision=precision)
    with pytest.raises(RuntimeError, match="codes are counted in precision fp32"):
        pair_scores(problem, device)
