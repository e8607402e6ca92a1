"""The loss on Hopper's tensor cores against dense float64 and against the kernels for every architecture: in the device
model, and on a real device of compute capability 9.0.

Shapes: Q queries, D candidates, H embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.ops.contrastive.test_cuda import Shape, moved
from tests.ops.contrastive.test_extension import (
    EPSILON,
    Problem,
    backward,
    dense_gradients,
    forward,
    largest,
    logits_of,
    random_problem,
    random_weights,
)
from tests.ops.devices import on_devices, on_devices_with, on_gpu, ops_on, put

HOPPER: dict[str, Any] = {"family": "contrastive", "capability": 90}
DTYPES = [torch.bfloat16, torch.float16]
# Tiles are 128 x 256, slabs 64 elements of a row, at most 1,792 queries' weights are held: sizes around these.
SHAPES = [(1, 1, 8), (5, 300, 40), (300, 5, 64), (128, 256, 64), (129, 257, 72), (127, 700, 768), (1793, 513, 256),
          (4000, 3000, 768), (64, 40_000, 384), (40_000, 64, 1024)]  # fmt: skip


@pytest.fixture(autouse=True)
def hopper_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_CUDA_KERNELS", "hopper")


def in_model(shape: Shape) -> bool:
    return math.prod(shape) < 3 * 10**8


def problem_on(
    device: str, seed: int, shape: Shape, temperature: float, dtype: torch.dtype, **options: bool
) -> Problem:
    Q, D, H = shape
    problem = random_problem(seed, Q=Q, D=D, H=H, scale=1 / temperature, groups=Q + D, **options)
    rounded = replace(problem, queries=problem.queries.to(dtype), candidates=problem.candidates.to(dtype))
    return moved(rounded, device)


def weights_on(device: str, problem: Problem, seed: int) -> tuple[Tensor, ...]:
    return tuple(put(weight, device) for weight in random_weights(problem, seed))


def lse_bound(problem: Problem, peak: float) -> float:
    """Four units of the largest logit, and the bound of a chain of H sums that are cut off instead of rounded."""
    return (4 + 2 * problem.queries.size(1)) * EPSILON * (1 + peak)


def assert_lse(found: Tensor, exact: Tensor, bound: float) -> None:
    assert torch.equal(found.isinf(), exact.isinf())
    finite = exact.isfinite()
    assert ((found.double() - exact)[finite].abs() <= bound).all()


def within_one_percent(found: Tensor, exact: Tensor, size: float) -> bool:
    """Of the gradient, or where its terms cancel a thousandth of these."""
    return float((found.double() - exact).norm()) <= max(0.01 * float(exact.norm()), 0.001 * size)


@on_devices_with("shape", SHAPES, in_model=in_model, **HOPPER)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_loss_and_gradients_are_those_of_float64(
    device: str, shape: Shape, dtype: torch.dtype, temperature: float
) -> None:
    problem = problem_on(device, shape[0], shape, temperature, dtype)
    weights = weights_on(device, problem, 1)
    exact_QD = logits_of(problem, torch.float64)
    bound = lse_bound(problem, largest(exact_QD))
    row_lse, positive_logit, column_lse = forward(problem, device)
    assert_lse(row_lse, exact_QD.logsumexp(1), bound)
    assert_lse(column_lse, exact_QD.logsumexp(0), bound)
    rows = (problem.positive_index >= 0).nonzero().flatten()
    assert not positive_logit[problem.positive_index < 0].any()
    expected = exact_QD[rows, problem.positive_index[rows]]
    assert ((positive_logit[rows].double() - expected).abs() <= bound).all()
    exact = dense_gradients(problem, weights, torch.float64)
    size = sum(float(weight.double().norm()) for weight in weights) * float(problem.scale)
    for mine, wanted in zip(backward(problem, weights, device)[:2], exact, strict=False):
        assert mine.dtype == torch.float32
        assert within_one_percent(mine, wanted, size)


@on_devices_with("shape", [(700, 700, 256), (3000, 3000, 768)], in_model=in_model, **HOPPER)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("upstream", [1.0, 1e-7])
def test_gradients_of_a_mean_loss_do_not_vanish_in_16_bits(
    device: str, shape: Shape, dtype: torch.dtype, upstream: float
) -> None:
    problem = problem_on(device, 3, shape, 0.05, dtype, absent=False)
    row_lse, _, none = forward(problem, device, columns=False)
    each = torch.full_like(row_lse, upstream)
    found = ops_on(device).contrastive_backward(*problem.arguments(), row_lse, each, -each, none, none)
    exact = dense_gradients(problem, (each, -each, torch.zeros_like(each)), torch.float64)
    for mine, wanted in zip(found[:2], exact, strict=False):
        assert float((mine.double() - wanted).norm()) <= 0.01 * float(wanted.norm())
    assert float((found[2].double() - exact[2]).abs()) <= 0.01 * float(exact[2].abs()) + 1e-3 * upstream * shape[0]


@on_devices_with("shape", [(1800, 300, 64), (700, 900, 768), (2500, 1000, 128)], in_model=in_model, **HOPPER)
def test_they_agree_with_the_kernels_for_every_architecture(
    device: str, shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problem_on(device, 4, shape, 0.02, torch.bfloat16)
    weights = weights_on(device, problem, 2)
    found = forward(problem, device), backward(problem, weights, device)
    monkeypatch.setenv("HYBATCH_CUDA_KERNELS", "generic")
    expected = forward(problem, device), backward(problem, weights, device)
    bound = 2 * lse_bound(problem, largest(logits_of(problem, torch.float64)))
    for mine, other in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=bound)
    for mine, other in zip(found[1][:2], expected[1], strict=False):
        assert float((mine - other).norm()) <= 0.01 * float(other.norm())


@on_devices(**HOPPER)
@pytest.mark.parametrize("peak", [50.0, 200.0])
def test_logits_of_any_size_keep_the_precision_of_float32(device: str, peak: float) -> None:
    problem = problem_on(device, 5, (500, 700, 64), 1 / peak, torch.bfloat16)
    problem.candidates[:300] = problem.queries[:300]  # logits of `peak` beside those around 0
    exact_QD = logits_of(problem, torch.float64)
    row_lse, _, column_lse = forward(problem, device)
    assert_lse(row_lse, exact_QD.logsumexp(1), lse_bound(problem, peak))
    assert_lse(column_lse, exact_QD.logsumexp(0), lse_bound(problem, peak))


@on_devices(**HOPPER)
def test_a_row_with_nothing_but_its_positive_has_no_loss(device: str) -> None:
    problem = problem_on(device, 6, (300, 600, 128), 0.01, torch.bfloat16, absent=False)
    alone = replace(problem, candidate_groups=torch.full_like(problem.candidate_groups, -2))
    row_lse, positive_logit, *gradients = ops_on(device).contrastive_forward_backward(*alone.arguments())
    assert torch.equal(row_lse, positive_logit)
    assert not any(gradient.any() for gradient in gradients)


@on_devices(**HOPPER)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_never_passes_for_a_finite_loss(device: str, bad: float) -> None:
    for place in ("queries", "candidates"):
        problem = problem_on(device, 7, (200, 300, 64), 0.05, torch.bfloat16, absent=False)
        getattr(problem, place)[17, 3] = bad
        ungrouped = replace(problem, candidate_groups=torch.full_like(problem.candidate_groups, -1))
        row_lse, positive_logit, _ = forward(ungrouped, device)
        assert not (row_lse - positive_logit).sum().isfinite()


def everything(problem: Problem, weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    both = ops_on("cuda").contrastive_forward_backward(*problem.arguments())
    return (*forward(problem, "cuda"), *backward(problem, weights, "cuda"), *both)


def equal(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(mine, other) for mine, other in zip(found, expected, strict=True))


@on_gpu(**HOPPER)
def test_results_repeat_bit_for_bit_also_on_another_stream() -> None:
    problem = problem_on("cuda", 8, (5000, 4000, 768), 0.02, torch.bfloat16, absent=False)
    weights = weights_on("cuda", problem, 3)
    expected = everything(problem, weights)
    assert all(equal(everything(problem, weights), expected) for _ in range(3))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = everything(problem, weights)
    stream.synchronize()
    assert equal(found, expected)


@on_gpu(**HOPPER)
def test_a_captured_graph_computes_anew_from_what_its_inputs_hold() -> None:
    problem = problem_on("cuda", 9, (2000, 1500, 256), 0.05, torch.bfloat16, absent=False)
    weights = weights_on("cuda", problem, 4)
    everything(problem, weights)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = everything(problem, weights)
    for _ in range(2):
        problem.queries.copy_(F.normalize(torch.randn(2000, 256, device="cuda"), dim=1))
        graph.replay()
        assert equal(captured, everything(problem, weights))


@on_gpu(**HOPPER)
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one device")
def test_the_tensors_device_need_not_be_the_current_one() -> None:
    problem = problem_on("cuda", 10, (300, 300, 64), 0.05, torch.bfloat16, absent=False)
    elsewhere = Problem(*(tensor.to("cuda:1") for tensor in problem.arguments()))
    found = ops_on("cuda").contrastive_forward_backward(*elsewhere.arguments())
    expected = ops_on("cuda").contrastive_forward_backward(*problem.arguments())
    assert equal(tuple(tensor.to("cuda:0") for tensor in found), expected)


@on_devices(**HOPPER)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: replace(p, queries=p.queries.float(), candidates=p.candidates.float()), "not float32"),
        (lambda p: replace(p, queries=p.queries[:, :60].contiguous(), candidates=p.candidates[:, :60].contiguous()),
         "multiple of 8"),
    ],
)  # fmt: skip
def test_what_they_cannot_serve_is_refused_by_name_and_left_to_the_others(
    device: str, change: Callable[[Problem], Problem], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = change(problem_on(device, 11, (100, 100, 64), 0.05, torch.bfloat16))
    with pytest.raises(RuntimeError, match=reason):
        forward(problem, device)
    monkeypatch.setenv("HYBATCH_CUDA_KERNELS", "wgmma")
    with pytest.raises(RuntimeError, match="generic or hopper"):
        forward(problem, device)
    monkeypatch.delenv("HYBATCH_CUDA_KERNELS")
    found = forward(problem, device)
    monkeypatch.setenv("HYBATCH_CUDA_KERNELS", "generic")
    assert equal(found, forward(problem, device))


def large_problem(B: int) -> Problem:
    generator = torch.Generator("cuda").manual_seed(B)

    def rows() -> Tensor:
        return F.normalize(torch.randn(B, 768, generator=generator, device="cuda"), dim=1).bfloat16()

    index = torch.arange(B, device="cuda")
    queries = rows()
    candidates = F.normalize(queries.float() + 2 * rows().float(), dim=1).bfloat16()
    return Problem(queries, candidates, index, index // 2, index // 2, torch.tensor(20.0, device="cuda"))


def run_within(problem: Problem, limit: float) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Both passes of the symmetric loss; device memory beyond their inputs and results stays below `limit`."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = forward(problem, "cuda")
    ones = torch.ones_like(found[0])
    upstream = (found[0], ones, -2 * ones, found[2], ones)
    gradients = ops_on("cuda").contrastive_backward(*problem.arguments(), *upstream)
    torch.cuda.synchronize()
    results = sum(tensor.nbytes for tensor in (*found, *gradients, ones, *upstream[2:3]))
    assert torch.cuda.max_memory_allocated() - before - results < limit
    return found, gradients


def assert_some_rows(problem: Problem, found: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> None:
    """A few queries and candidates, each against all of the other side in float64."""
    B = len(problem.queries)
    sampled = torch.tensor([0, 1, B // 3, B - 129, B - 1], device="cuda")
    sides = [(problem.queries, problem.candidates), (problem.candidates, problem.queries)]
    for lse, other_lse, gradient, (mine, others) in zip(
        (found[0], found[2]), (found[2], found[0]), gradients, sides, strict=False
    ):
        for row in sampled.tolist():
            logits_B = torch.cat([chunk.double() @ mine[row].double() for chunk in others.split(1 << 16)]) * 20.0
            logits_B[problem.query_groups == problem.query_groups[row]] = -torch.inf
            logits_B[row] = float(mine[row].double() @ others[row].double()) * 20.0
            assert abs(float(lse[row]) - float(logits_B.logsumexp(0))) <= lse_bound(problem, 20.0)
            weights_B = (logits_B - lse[row].double()).exp() + (logits_B - other_lse.double()).exp()
            weights_B[row] -= 2
            wanted = 20.0 * sum(
                w @ chunk.double() for w, chunk in zip(weights_B.split(1 << 16), others.split(1 << 16), strict=True)
            )
            assert float((gradient[row].double() - wanted).norm()) <= 0.01 * float(wanted.norm())


@on_gpu(**HOPPER)
def test_65_536_pairs_take_less_than_300_megabytes() -> None:
    problem = large_problem(65_536)
    found, gradients = run_within(problem, 300e6)
    assert_some_rows(problem, found, gradients)


@on_gpu(**HOPPER)
@pytest.mark.slow
def test_a_million_pairs_take_less_than_8_gigabytes() -> None:
    problem = large_problem(1_048_576)
    found, gradients = run_within(problem, 8e9)
    assert_some_rows(problem, found, gradients)
