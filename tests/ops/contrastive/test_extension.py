"""The compiled loss ops on the CPU: every instruction set against float64, and against PyTorch's own float32.

Shapes: Q queries, D candidates, H embedding width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybatch.ops import backend
from tests.ops.devices import ops_on
from tests.ops.instruction_sets import INSTRUCTION_SETS

EPSILON = 2.0**-24
_missing = backend.why_missing("cpu", "contrastive")
pytestmark = pytest.mark.skipif(_missing is not None, reason=f"no compiled ops: {_missing}")


@dataclass(frozen=True)
class Problem:
    queries: Tensor  # [Q, H]
    candidates: Tensor  # [D, H]
    positive_index: Tensor  # [Q]
    query_groups: Tensor  # [Q]
    candidate_groups: Tensor  # [D]
    scale: Tensor  # []

    def arguments(self) -> tuple[Tensor, ...]:
        return (
            self.queries, self.candidates, self.positive_index, self.query_groups, self.candidate_groups, self.scale,
        )  # fmt: skip

    def left_out(self) -> Tensor:
        """[Q, D], the pairs that take no part."""
        same_QD = (self.query_groups[:, None] == self.candidate_groups) & (self.candidate_groups >= 0)
        left_out_QD = same_QD | (self.candidate_groups == -2)
        rows = (self.positive_index >= 0).nonzero().flatten()
        left_out_QD[rows, self.positive_index[rows]] = False
        return left_out_QD


def random_problem(seed: int, *, Q: int, D: int, H: int, scale: float, groups: int = 4, absent: bool = True) -> Problem:
    generator = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int, count: int) -> Tensor:
        return torch.randint(low, max(high, low + 1), (count,), generator=generator)

    return Problem(
        F.normalize(torch.randn(Q, H, generator=generator), dim=1),
        F.normalize(torch.randn(D, H, generator=generator), dim=1),
        integers(-1 if absent or D == 0 else 0, D, Q),
        integers(-1, groups, Q),
        integers(-2, groups, D),
        torch.tensor(scale),
    )


def logits_of(problem: Problem, dtype: torch.dtype) -> Tensor:
    logits_QD = problem.queries.to(dtype) @ problem.candidates.to(dtype).T * problem.scale.to(dtype)
    return logits_QD.masked_fill(problem.left_out(), -torch.inf)


def largest(logits_QD: Tensor) -> float:
    finite = logits_QD[logits_QD.isfinite()].abs()
    return float(finite.max()) if len(finite) else 0.0


def dense_gradients(problem: Problem, weights: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Gradients of the weighted sum of row log-sum-exps, positives' logits and column log-sum-exps, by autograd."""
    leaves = [t.to(dtype, copy=True).requires_grad_() for t in (problem.queries, problem.candidates, problem.scale)]
    moved = replace(problem, queries=leaves[0], candidates=leaves[1], scale=leaves[2])
    logits_QD = logits_of(moved, dtype)
    total = logits_QD.new_zeros(())
    for weight, dim in ((weights[0], 1), (weights[2], 0)):
        taking_part = ~problem.left_out().all(dim)
        lines = logits_QD[taking_part] if dim == 1 else logits_QD[:, taking_part]
        total = total + (lines.logsumexp(dim) * weight[taking_part].to(dtype)).sum()
    rows = (problem.positive_index >= 0).nonzero().flatten()
    total = total + (logits_QD[rows, problem.positive_index[rows]] * weights[1][rows].to(dtype)).sum()
    return torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)


def forward(problem: Problem, device: str = "cpu", *, columns: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Of a problem that is on the device."""
    result: tuple[Tensor, Tensor, Tensor] = ops_on(device).contrastive_forward(*problem.arguments(), columns)
    return result


def backward(problem: Problem, weights: tuple[Tensor, ...], device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    row_lse, _, column_lse = forward(problem, device)
    result: tuple[Tensor, Tensor, Tensor] = ops_on(device).contrastive_backward(
        *problem.arguments(), row_lse, weights[0], weights[1], column_lse, weights[2]
    )
    return result


def random_weights(problem: Problem, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    Q, D = len(problem.queries), len(problem.candidates)
    return tuple(torch.randn(count, generator=generator) for count in (Q, Q, D))  # type: ignore[return-value]


def assert_lse(ours: Tensor, expected: Tensor, H: int, peak: float) -> None:
    """Four units of the largest logit, and the bound of a chain of H roundings on vectors of length 1."""
    assert torch.equal(ours.isinf(), expected.isinf())
    finite = expected.isfinite()
    bound = 4 * EPSILON * (1 + peak) + H * EPSILON * (1 + peak)
    assert ((ours.double() - expected)[finite].abs() <= bound).all()


def assert_gradients(ours: tuple[Tensor, ...], problem: Problem, weights: tuple[Tensor, ...]) -> None:
    exact, plain = (dense_gradients(problem, weights, dtype) for dtype in (torch.float64, torch.float32))
    peak = largest(logits_of(problem, torch.float64))
    size = sum(float(weight.double().norm()) for weight in weights) * float(problem.scale)
    for mine, reference, dense in zip(ours, exact, plain, strict=True):
        error, dense_error = (float((t.double() - reference).norm()) for t in (mine, dense))
        # Where terms cancel no float32 gradient is good relative to itself, only to the terms.
        assert error <= max(8 * EPSILON * (1 + peak) * float(reference.norm()), 2 * dense_error, EPSILON * size)


sizes = st.one_of(st.integers(0, 40), st.integers(1, 300))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), Q=sizes, D=sizes, H=st.integers(1, 300), groups=st.sampled_from([0, 1, 4, 1000]),
    scale=st.sampled_from([1.0, 20.0, 100.0, 200.0]), name=st.sampled_from(INSTRUCTION_SETS),
)  # fmt: skip
@example(seed=1, Q=1100, D=700, H=800, groups=50, scale=20.0, name=INSTRUCTION_SETS[0])
def test_log_sum_exps_and_gradients_are_those_of_float64_within_the_bounds(
    seed: int, Q: int, D: int, H: int, groups: int, scale: float, name: str
) -> None:
    problem = random_problem(seed, Q=Q, D=D, H=H, scale=scale, groups=groups)
    weights = random_weights(problem, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBATCH_CPU_ISA", name)
        row_lse, positive_logit, column_lse = forward(problem)
        gradients = backward(problem, weights)
    exact_QD = logits_of(problem, torch.float64)
    peak = largest(exact_QD)
    assert_lse(row_lse, exact_QD.logsumexp(1), H, peak)
    assert_lse(column_lse, exact_QD.logsumexp(0), H, peak)
    assert not positive_logit[problem.positive_index < 0].any()
    assert_gradients(gradients, problem, weights)


@pytest.mark.parametrize(("Q", "D"), [(1, 1), (40, 40), (600, 300)])
@pytest.mark.parametrize("scale", [1.0, 20.0, 200.0])
def test_one_pass_gives_the_loss_of_the_forward_pass_and_its_gradients(
    instruction_set: str, Q: int, D: int, scale: float
) -> None:
    problem = random_problem(Q, Q=Q, D=D, H=50, scale=scale, absent=False)
    row_lse, positive_logit, *gradients = torch.ops.hybatch.contrastive_forward_backward(*problem.arguments())
    expected = forward(problem, columns=False)
    assert torch.equal(row_lse, expected[0])
    assert torch.equal(positive_logit, expected[1])
    assert expected[2].shape == (0,)
    assert_gradients(tuple(gradients), problem, (torch.ones(Q), -torch.ones(Q), torch.zeros(D)))


def test_a_row_with_nothing_but_its_positive_has_no_loss(instruction_set: str) -> None:
    problem = random_problem(3, Q=70, D=90, H=33, scale=100.0, absent=False)
    alone = replace(problem, candidate_groups=torch.full((90,), -2))
    row_lse, positive_logit, *gradients = torch.ops.hybatch.contrastive_forward_backward(*alone.arguments())
    assert torch.equal(row_lse, positive_logit)
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_change_no_bit(instruction_set: str, num_threads: Callable[[int], None], threads: int) -> None:
    problem = random_problem(4, Q=530, D=700, H=40, scale=20.0)
    weights = random_weights(problem, 1)
    num_threads(1)
    expected = (*forward(problem), *backward(problem, weights))
    num_threads(threads)
    for mine, single in zip((*forward(problem), *backward(problem, weights)), expected, strict=True):
        assert torch.equal(mine, single)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_inputs_count_as_their_values_in_32_bits(instruction_set: str, dtype: torch.dtype) -> None:
    problem = random_problem(5, Q=60, D=100, H=70, scale=50.0)
    narrow = replace(problem, queries=problem.queries.to(dtype), candidates=problem.candidates.to(dtype))
    exact = replace(problem, queries=narrow.queries.float(), candidates=narrow.candidates.float())
    weights = random_weights(problem, 2)
    results = [(*forward(p), *backward(p, weights)) for p in (narrow, exact)]
    for mine, other in zip(*results, strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, other)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_never_passes_for_a_finite_loss(instruction_set: str, bad: float) -> None:
    for place in ("queries", "candidates"):
        problem = random_problem(6, Q=40, D=60, H=20, scale=20.0, groups=0, absent=False)
        getattr(problem, place)[17, 3] = bad
        row_lse, positive_logit, _ = forward(replace(problem, candidate_groups=torch.full((60,), -1)))
        assert (row_lse - positive_logit).sum().isnan()


def test_each_bad_argument_is_named() -> None:
    problem = random_problem(7, Q=4, D=6, H=5, scale=2.0)
    cases: dict[str, dict[str, Any]] = {
        "candidates must be float32": {"candidates": problem.candidates.double()},
        "same width": {"candidates": torch.zeros(6, 4)},
        "queries must be contiguous": {"queries": torch.zeros(5, 4).T},
        r"positive_index\[0\] is 6": {"positive_index": torch.full((4,), 6)},
        "query_groups must have size 4": {"query_groups": torch.zeros(3).long()},
        "candidate_groups has the wrong dtype": {"candidate_groups": torch.zeros(6)},
        "scale has the wrong dtype": {"scale": torch.tensor(2.0).double()},
        "scale must have 0 dimensions": {"scale": torch.ones(1)},
    }
    for message, change in cases.items():
        with pytest.raises(RuntimeError, match=message):
            forward(replace(problem, **change))


def test_the_dispatcher_accepts_all_three_ops() -> None:
    problem = random_problem(8, Q=6, D=9, H=7, scale=3.0, absent=False)
    weights = random_weights(problem, 3)
    row_lse, _, column_lse = forward(problem)
    ops = torch.ops.hybatch
    for columns in (True, False):
        torch.library.opcheck(ops.contrastive_forward.default, (*problem.arguments(), columns))
    terms = (row_lse, weights[0], weights[1], column_lse, weights[2])
    torch.library.opcheck(ops.contrastive_backward.default, (*problem.arguments(), *terms))
    torch.library.opcheck(ops.contrastive_forward_backward.default, problem.arguments())


def test_the_ops_compile_into_one_graph() -> None:
    problem = random_problem(9, Q=6, D=9, H=7, scale=3.0, absent=False)

    def run(queries: Tensor) -> Tensor:
        row_lse, positive_logit, *_ = torch.ops.hybatch.contrastive_forward_backward(queries, *problem.arguments()[1:])
        return (row_lse - positive_logit).sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(problem.queries), run(problem.queries))
