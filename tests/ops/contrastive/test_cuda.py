"""The CUDA loss for every architecture against the CPU's: in the device model, and on a real device where torch finds
one. The tensor cores' is tested in `contrastive/test_hopper`.

Shapes: Q queries, D candidates, H embedding width.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hybatch.ops.contrastive import pack_pairs
from tests.ops.contrastive.test_extension import Problem, backward, forward, random_problem, random_weights
from tests.ops.devices import on_devices, on_devices_with, on_gpu, ops_on, put

Shape = tuple[int, int, int]
SHAPES: list[Shape] = [(1, 1, 1), (5, 300, 33), (300, 5, 64), (129, 257, 100), (1000, 700, 768)]
FAMILY = "contrastive"


@pytest.fixture(autouse=True)
def generic_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_CUDA_KERNELS", "generic")


def moved(problem: Problem, device: str) -> Problem:
    return Problem(*(put(tensor, device) for tensor in problem.arguments()))


def in_model(shape: Shape) -> bool:
    return math.prod(shape) < 10**8


def assert_close(ours: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for mine, other in zip(ours, expected, strict=True):
        size = float(other[other.isfinite()].norm())  # the log-sum-exp of nothing is minus infinity
        torch.testing.assert_close(mine.cpu(), other, rtol=1e-4, atol=1e-5 * (1 + size))


def assert_as_on_the_cpu(problem: Problem, device: str) -> None:
    weights = random_weights(problem, 1)
    on_device, weights_there = moved(problem, device), tuple(put(weight, device) for weight in weights)
    assert_close(forward(on_device, device), forward(problem))
    assert_close(backward(on_device, weights_there, device), backward(problem, weights))


@on_devices_with("shape", SHAPES, in_model=in_model, family=FAMILY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_loss_and_gradients_are_those_of_the_cpu(device: str, shape: Shape, dtype: torch.dtype) -> None:
    Q, D, H = shape
    problem = random_problem(Q, Q=Q, D=D, H=H, scale=20.0)
    problem = replace(problem, queries=problem.queries.to(dtype), candidates=problem.candidates.to(dtype))
    assert_as_on_the_cpu(problem, device)


@on_devices_with("shape", [(5, 300, 33), (129, 257, 100)], in_model=in_model, family=FAMILY)
def test_pairs_left_out_one_by_one_take_no_part(device: str, shape: Shape) -> None:
    Q, D, H = shape
    problem = random_problem(Q, Q=Q, D=D, H=H, scale=20.0, absent=False)
    generator = torch.Generator().manual_seed(H)
    bits = pack_pairs(torch.rand(Q, D, generator=generator) < 0.3)
    on_device, bits_there = moved(problem, device), put(bits, device)
    ours = ops_on(device).contrastive_forward_backward(*on_device.arguments(), bits_there)
    expected = ops_on("cpu").contrastive_forward_backward(*problem.arguments(), bits)
    assert_close(ours, expected)
    without = ops_on("cpu").contrastive_forward_backward(*problem.arguments())
    assert (expected[0] < without[0]).all()


@on_gpu(family=FAMILY)
def test_results_repeat_bit_for_bit_and_in_a_captured_graph() -> None:
    problem = moved(random_problem(2, Q=600, D=500, H=96, scale=50.0, absent=False), "cuda")
    run = torch.ops.hybatch.contrastive_forward_backward
    expected = run(*problem.arguments())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run(*problem.arguments())
    graph.replay()
    for results in (run(*problem.arguments()), captured):
        assert all(torch.equal(mine, other) for mine, other in zip(results, expected, strict=True))


@on_devices(family=FAMILY)
def test_one_pass_is_the_forward_pass_and_its_gradients(device: str) -> None:
    problem = random_problem(3, Q=200, D=300, H=64, scale=20.0, absent=False)
    found = ops_on(device).contrastive_forward_backward(*moved(problem, device).arguments())
    assert_close(found, ops_on("cpu").contrastive_forward_backward(*problem.arguments()))


@on_devices(family=FAMILY)
@pytest.mark.parametrize(("Q", "D"), [(0, 5), (5, 0), (0, 0)])
def test_nothing_on_one_side_is_no_error(device: str, Q: int, D: int) -> None:
    assert_as_on_the_cpu(random_problem(4, Q=Q, D=D, H=7, scale=2.0), device)


@on_devices(family=FAMILY)
def test_embeddings_wider_than_a_grid_is_high_are_refused(device: str) -> None:
    problem = moved(random_problem(5, Q=1, D=1, H=1, scale=1.0), device)
    rows = put(torch.zeros(1, 65535 * 128 + 1), device)
    with pytest.raises(RuntimeError, match="at most 8388480 columns, not 8388481"):
        forward(replace(problem, queries=rows, candidates=rows), device)
