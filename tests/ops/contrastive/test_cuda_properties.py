"""Properties of the loss's CUDA kernels over shapes, groups and numbers of multiprocessors that no list of cases names:
in the device model, against dense float64.

Shapes: Q queries, D candidates, H embedding width.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.csrc.device_model import model
from tests.ops.contrastive.test_extension import (
    EPSILON,
    Problem,
    assert_lse,
    dense_gradients,
    forward,
    largest,
    logits_of,
    random_problem,
    random_weights,
)
from tests.ops.devices import marks

pytestmark = marks("model")
UNIT = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}  # largest relative error of rounding
SIZES = st.integers(1, 300)
MULTIPROCESSORS = st.sampled_from([1, 2, 5, 8, 132])
DTYPES = st.sampled_from(list(UNIT))
PROBLEMS = {
    "seed": st.integers(0, 2**32),
    "Q": SIZES,
    "D": SIZES,
    "eights": st.integers(1, 16),  # of the width
    "groups": st.sampled_from([0, 1, 4, 1000]),
    "scale": st.sampled_from([1.0, 20.0, 200.0]),
    "dtype": DTYPES,
}
of_the_kernels = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["generic", "hopper"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HYBATCH_CUDA_KERNELS", request.param)
    return str(request.param)


@pytest.fixture
def hopper_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_CUDA_KERNELS", "hopper")


def rounded(problem: Problem, dtype: torch.dtype) -> Problem:
    return replace(problem, queries=problem.queries.to(dtype), candidates=problem.candidates.to(dtype))


def draw_problem(seed: int, sizes: tuple[int, int, int], scale: float, groups: int, dtype: torch.dtype) -> Problem:
    problem = random_problem(seed, Q=sizes[0], D=sizes[1], H=sizes[2], scale=scale, groups=groups)
    if seed % 3 == 0:  # groups of which the lower halves of 64 bits are equal
        problem = replace(problem, query_groups=problem.query_groups + (problem.query_groups >= 0) * 2**32)
    return rounded(problem, dtype)


def assert_forward(problem: Problem, found: tuple[Tensor, Tensor, Tensor]) -> None:
    row_lse, positive_logit, column_lse = found
    exact_QD = logits_of(problem, torch.float64)
    peak, width = largest(exact_QD), problem.queries.size(1)
    assert_lse(row_lse, exact_QD.logsumexp(1), width, peak)
    assert_lse(column_lse, exact_QD.logsumexp(0), width, peak)
    rows = (problem.positive_index >= 0).nonzero().flatten()
    assert_lse(positive_logit[rows], exact_QD[rows, problem.positive_index[rows]], width, peak)
    assert not positive_logit[problem.positive_index < 0].any()
    alone = ((~problem.left_out()).sum(1) == 1) & (problem.positive_index >= 0)
    assert torch.equal(row_lse[alone], positive_logit[alone])


@settings(of_the_kernels, max_examples=12)
@given(multiprocessors=MULTIPROCESSORS, **PROBLEMS)
@example(
    multiprocessors=3, seed=1, Q=700, D=1100, eights=8, groups=40, scale=100.0, dtype=torch.bfloat16
)  # several tiles for each thread block, and several blocks for each of these
def test_log_sum_exps_are_those_of_float64(
    kernels: str, seed: int, Q: int, D: int, eights: int, groups: int, scale: float, dtype: torch.dtype,
    multiprocessors: int,
) -> None:  # fmt: skip
    problem = draw_problem(seed, (Q, D, 8 * eights), scale, groups, dtype)
    with model.load().options(multiprocessors=multiprocessors, seed=seed):
        found = forward(problem, "model")
        assert_forward(problem, found)
        without = forward(problem, "model", columns=False)
    assert torch.equal(without[0], found[0])


@settings(of_the_kernels, max_examples=5)
@given(seed=st.integers(0, 2**32), groups=st.sampled_from([300, 3000, 100_000]))
def test_whole_tiles_with_few_positives_leave_out_exactly_the_pairs_that_share_a_group(
    hopper_kernels: None, seed: int, groups: int
) -> None:
    problem = draw_problem(seed, (256, 512, 8), 20.0, groups, torch.bfloat16)
    few = torch.where(torch.arange(256) % 100 == 7, problem.positive_index, -1)
    mostly = replace(problem, positive_index=few, candidate_groups=problem.candidate_groups.clamp(min=-1))
    assert_forward(mostly, forward(mostly, "model"))


@pytest.mark.parametrize("peak", [60, 96, 200, 3008])
def test_columns_far_below_the_largest_logit_of_their_rows_keep_their_precision(
    hopper_kernels: None, peak: int
) -> None:
    """One candidate dwarfs the others in every row: relative to it they would vanish."""
    problem = rounded(random_problem(3, Q=140, D=300, H=16, scale=1.0, groups=0), torch.bfloat16)
    problem.queries[:, 14:] = problem.candidates[:, 14:] = 0
    problem.queries[:, 15] = problem.candidates[:, 14] = 1
    problem.candidates[17, 15] = peak  # added to its logit in every row
    problem.queries[5, 14] = -2 * peak  # likewise of this query in every column
    ungrouped = replace(problem, candidate_groups=torch.full((300,), -1))
    row_lse, _, column_lse = forward(ungrouped, "model")
    exact_QD = logits_of(ungrouped, torch.float64)
    for found, exact in ((row_lse, exact_QD.logsumexp(1)), (column_lse, exact_QD.logsumexp(0))):
        assert ((found.double() - exact).abs() <= 4 * EPSILON * (1 + exact.abs())).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_element_that_is_not_finite_never_passes_for_a_finite_loss(kernels: str, bad: float) -> None:
    problem = random_problem(6, Q=40, D=60, H=24, scale=20.0, groups=0, absent=False)
    problem = rounded(replace(problem, candidate_groups=torch.full((60,), -1)), torch.float16)
    problem.queries[17, 3] = bad
    row_lse, positive_logit, _ = forward(problem, "model")
    assert not (row_lse - positive_logit).sum().isfinite()


def exact_weights(problem: Problem, lse: tuple[Tensor, Tensor], weights: tuple[Tensor, ...]) -> Tensor:
    """[Q, D], absolute values of what each pair's weight is made of."""
    logits_QD = logits_of(problem, torch.float64)
    rows_QD = (logits_QD - lse[0].double()[:, None]).exp().nan_to_num() * weights[0].abs()[:, None]
    columns_QD = (logits_QD - lse[1].double()).exp().nan_to_num() * weights[2].abs()
    total_QD = rows_QD + columns_QD
    rows = (problem.positive_index >= 0).nonzero().flatten()
    total_QD[rows, problem.positive_index[rows]] += weights[1][rows].abs()
    return total_QD


@settings(of_the_kernels, max_examples=15)
@given(multiprocessors=MULTIPROCESSORS, upstream=st.sampled_from([1.0, 1e-6, 3e4]), **PROBLEMS)
@example(multiprocessors=8, dtype=torch.float16, upstream=1e-9, seed=2, Q=300, D=300, eights=37, groups=4, scale=20.0)
@example(  # more queries than weights are held of at a time
    multiprocessors=5, dtype=torch.bfloat16, upstream=1.0, seed=4, Q=1900, D=200, eights=2, groups=4, scale=20.0
)
def test_hopper_gradients_are_those_of_float64_to_the_rounding_of_their_weights(
    hopper_kernels: None, seed: int, Q: int, D: int, eights: int, groups: int, scale: float, multiprocessors: int,
    dtype: torch.dtype, upstream: float,
) -> None:  # fmt: skip
    problem = draw_problem(seed, (Q, D, 8 * eights), scale, groups, dtype)
    weights = tuple(upstream * weight for weight in random_weights(problem, seed))
    exact_QD = logits_of(problem, torch.float64)
    lse = exact_QD.logsumexp(1).float(), exact_QD.logsumexp(0).float()
    with model.load().options(multiprocessors=multiprocessors, seed=seed):
        found = model.load().contrastive_backward(
            *problem.arguments(), lse[0], weights[0], weights[1], lse[1], weights[2]
        )
    exact = dense_gradients(problem, weights, torch.float64)
    sizes_QD = exact_weights(problem, lse, weights) * float(problem.scale)
    # What float32 logits and log-sum-exps leave open, and the weights' rounding; then their smallest place in 16 bits.
    relative = UNIT[dtype] + 8 * EPSILON * (1 + largest(exact_QD)) + 8 * eights * EPSILON
    place = float(problem.scale) * 2.0**-25 * max(float(w.abs().max()) for w in weights) / 2**12
    terms = ((sizes_QD, problem.candidates), (sizes_QD.T, problem.queries))
    for mine, wanted, (size, others) in zip(found, exact, terms, strict=False):
        bound = (relative * size + place) @ others.double().abs()
        assert ((mine.double() - wanted).abs() <= bound * (1 + (Q + D) * EPSILON) + 1e-37).all()
