"""The compiled CUDA loss for every architecture against the CPU's. Skipped where torch finds no CUDA device; the tensor
cores' is tested in `contrastive/test_hopper`.

Shapes: Q queries, D candidates, H embedding width.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hybatch.ops import backend
from tests.ops.contrastive.test_extension import Problem, backward, forward, random_problem, random_weights

_missing = backend.why_missing("cuda", "contrastive")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(_missing is not None, reason=f"no compiled CUDA ops: {_missing}")]


@pytest.fixture(autouse=True)
def generic_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_CUDA_KERNELS", "generic")


def on_gpu(problem: Problem) -> Problem:
    return Problem(*(tensor.cuda() for tensor in problem.arguments()))


def assert_close(ours: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for mine, other in zip(ours, expected, strict=True):
        size = float(other[other.isfinite()].norm())  # the log-sum-exp of nothing is minus infinity
        torch.testing.assert_close(mine.cpu(), other, rtol=1e-4, atol=1e-5 * (1 + size))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 300, 33), (300, 5, 64), (129, 257, 100), (1000, 700, 768)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_loss_and_gradients_are_those_of_the_cpu(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    Q, D, H = shape
    problem = random_problem(Q, Q=Q, D=D, H=H, scale=20.0)
    problem = replace(problem, queries=problem.queries.to(dtype), candidates=problem.candidates.to(dtype))
    weights = random_weights(problem, 1)
    moved, moved_weights = on_gpu(problem), tuple(weight.cuda() for weight in weights)
    assert_close(forward(moved), forward(problem))
    assert_close(backward(moved, moved_weights), backward(problem, weights))


def test_results_repeat_bit_for_bit_and_in_a_captured_graph() -> None:
    problem = on_gpu(random_problem(2, Q=600, D=500, H=96, scale=50.0, absent=False))
    run = torch.ops.hybatch.contrastive_forward_backward
    expected = run(*problem.arguments())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run(*problem.arguments())
    graph.replay()
    for results in (run(*problem.arguments()), captured):
        assert all(torch.equal(mine, other) for mine, other in zip(results, expected, strict=True))


def test_one_pass_is_the_forward_pass_and_its_gradients() -> None:
    problem = random_problem(3, Q=200, D=300, H=64, scale=20.0, absent=False)
    run = torch.ops.hybatch.contrastive_forward_backward
    assert_close(run(*on_gpu(problem).arguments()), run(*problem.arguments()))


@pytest.mark.parametrize(("Q", "D"), [(0, 5), (5, 0), (0, 0)])
def test_nothing_on_one_side_is_no_error(Q: int, D: int) -> None:
    problem = random_problem(4, Q=Q, D=D, H=7, scale=2.0)
    weights = random_weights(problem, 1)
    moved, moved_weights = on_gpu(problem), tuple(weight.cuda() for weight in weights)
    assert_close(forward(moved), forward(problem))
    assert_close(backward(moved, moved_weights), backward(problem, weights))
