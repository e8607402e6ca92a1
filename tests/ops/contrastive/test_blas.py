"""The ops of one tile between torch's products: every instruction set, the places past a tile's columns, arguments.

Shapes: Q queries, D candidates, H embedding width; s places of a tile's row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hybatch.ops import backend
from hybatch.ops.contrastive.backend import contrastive_ops
from tests.ops.contrastive.oracle import Problem, lse_bound, make_problem, reference

_missing = backend.why_missing("blas", "contrastive")
pytestmark = pytest.mark.skipif(_missing is not None, reason=f"no compiled ops: {_missing}")

Q, D, H = 530, 1100, 40
PLACES_OF_A_ROW = 1120


def _problem() -> Problem:
    """More than one work item of rows, and than one strip of columns, both cut short at the end."""
    return make_problem(0, Q, D, H, num_groups=20, share_left_out=0.02)


def _products(problem: Problem, past: float) -> Tensor:
    """[Q, s], with a value in the places past the last candidate."""
    products_QD = problem.queries @ problem.candidates.T
    return torch.nn.functional.pad(products_QD, (0, PLACES_OF_A_ROW - len(problem.candidates)), value=past)


def _sums(problem: Problem, products_Qs: Tensor, bits: Tensor | None = None) -> tuple[Tensor, ...]:
    """Largest logit, sum and positive's logit of every row, largest logit and sum of every column."""
    _, _, *labels, scale = problem.pairs()
    num_queries, num_candidates = len(problem.queries), len(problem.candidates)
    peaks = [torch.full((length,), float("-inf")) for length in (num_queries, num_candidates)]
    sums = [torch.zeros(length) for length in (num_queries, num_candidates)]
    found = (peaks[0], sums[0], torch.zeros(num_queries), peaks[1], sums[1])
    torch.ops.hybatch.contrastive_add_sums_(products_Qs, *found, *labels, scale, 0, bits)
    return found


def _loss_weights(problem: Problem, products_Qs: Tensor) -> Tensor:
    _, _, *labels, scale = problem.pairs()
    row_terms = (torch.zeros(len(problem.queries)) for _ in range(3))
    torch.ops.hybatch.contrastive_loss_weights_(products_Qs, *row_terms, *labels, scale, problem.bits)
    return products_Qs[:, : len(problem.candidates)]


def test_every_instruction_set_gives_the_log_sum_exps_and_gradients_of_float64(instruction_set: str) -> None:
    problem = _problem()
    generator = torch.Generator().manual_seed(1)
    grads = tuple(torch.randn(size, generator=generator) for size in (Q, Q, D))
    true = reference(problem, *grads)
    ops = contrastive_ops("blas", None)
    row_lse, positive_logit, column_lse = ops.forward(*problem.pairs(), True, problem.bits)
    gradients = ops.backward(*problem.pairs(), row_lse, grads[0], grads[1], column_lse, grads[2], problem.bits)
    bound = lse_bound(problem, true.largest_logit)
    expected = (true.row_lse, true.positive_logit, true.column_lse)
    for mine, wanted in zip((row_lse, positive_logit, column_lse), expected, strict=True):
        assert torch.equal(mine.isinf(), wanted.isinf())
        assert ((mine.double() - wanted)[wanted.isfinite()].abs() <= bound).all()
    exact = (true.grad_queries, true.grad_candidates, true.grad_scale)
    for mine, wanted, size in zip(gradients, exact, true.sizes, strict=True):
        assert (mine.double() - wanted).norm() <= 1e-5 * size


def test_one_pass_gives_the_log_sum_exps_of_two(instruction_set: str) -> None:
    problem = _problem()
    ops = contrastive_ops("blas", None)
    row_lse, positive_logit, _ = ops.forward(*problem.pairs(), False, problem.bits)
    assert torch.equal(ops.forward_backward(*problem.pairs(), problem.bits)[0], row_lse)
    assert torch.equal(ops.forward_backward(*problem.pairs(), problem.bits)[1], positive_logit)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_bit_of_what_lies_between_the_products(
    instruction_set: str, num_threads: Callable[[int], None], threads: int
) -> None:
    problem = _problem()
    products_Qs = _products(problem, 0.0)

    def run() -> tuple[Tensor, ...]:
        return *_sums(problem, products_Qs.clone()), _loss_weights(problem, products_Qs.clone())

    num_threads(1)
    expected = run()
    num_threads(threads)
    assert all(torch.equal(mine, single) for mine, single in zip(run(), expected, strict=True))


@pytest.mark.parametrize("past", [float("nan"), float("inf"), 3e38])
def test_what_lies_past_the_last_candidate_counts_for_nothing(instruction_set: str, past: float) -> None:
    problem = _problem()
    clean, dirty = _products(problem, 0.0), _products(problem, past)
    for mine, wanted in zip(_sums(problem, dirty.clone()), _sums(problem, clean.clone()), strict=True):
        assert torch.equal(mine, wanted)
    assert torch.equal(_loss_weights(problem, dirty), _loss_weights(problem, clean))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_spoils_its_own_query_and_no_other(instruction_set: str, bad: float) -> None:
    problem = make_problem(2, 40, 60, 20, num_groups=1000)
    problem.queries[17, 3] = bad
    row_lse, positive_logit, _ = contrastive_ops("blas", None).forward(*problem.pairs(), False)
    loss_Q = row_lse - positive_logit
    assert loss_Q[17].isnan()
    assert loss_Q[torch.arange(40) != 17].isfinite().all()


def _arguments(op: str, problem: Problem) -> tuple[Any, ...]:
    _, _, *labels, scale = problem.pairs()
    num_queries, num_candidates = len(problem.queries), len(problem.candidates)
    products_Qs = torch.zeros(num_queries, PLACES_OF_A_ROW)
    row_terms, column_terms = torch.zeros(3, num_queries).unbind(), torch.zeros(2, num_candidates).unbind()
    return {
        "contrastive_add_sums_": (products_Qs, *row_terms, *column_terms, *labels, scale, 0, problem.bits),
        "contrastive_known_weights_": (products_Qs, *labels, scale, 0, *row_terms, *column_terms, problem.bits),
        "contrastive_loss_weights_": (products_Qs, *row_terms, *labels, scale, problem.bits),
    }[op]


OPS = ("contrastive_add_sums_", "contrastive_known_weights_", "contrastive_loss_weights_")
PRODUCTS, LEFT_OUT = 0, -1
"""Places among the arguments of every op."""


@pytest.mark.parametrize("op", OPS)
def test_the_dispatcher_accepts_the_op(op: str) -> None:
    problem = make_problem(3, 6, 9, 7, share_left_out=0.1)
    arguments = tuple(a.clone() if isinstance(a, Tensor) else a for a in _arguments(op, problem))
    torch.library.opcheck(getattr(torch.ops.hybatch, op).default, arguments)


@pytest.mark.parametrize("op", OPS)
def test_each_bad_argument_is_named(op: str) -> None:
    problem = make_problem(4, 6, 9, 7, share_left_out=0.1)
    cases: list[tuple[str, int, Tensor]] = [
        ("products must have 32 columns or more, not 31", PRODUCTS, torch.zeros(6, 31)),
        ("products must have 2 dimensions", PRODUCTS, torch.zeros(6)),
        ("products must have size 6 in dimension 0, not 5", PRODUCTS, torch.zeros(5, 32)),
        ("products has the wrong dtype", PRODUCTS, torch.zeros(6, 32, dtype=torch.float64)),
        ("products must be contiguous", PRODUCTS, torch.zeros(32, 6).T),
        ("left_out must have a bit for every candidate up to number 9", LEFT_OUT, torch.zeros(6, 1, dtype=torch.uint8)),
        ("left_out has the wrong dtype", LEFT_OUT, torch.zeros(6, 2)),
    ]
    for message, place, value in cases:
        arguments = list(_arguments(op, problem))
        arguments[place] = value
        with pytest.raises(RuntimeError, match=message):
            getattr(torch.ops.hybatch, op)(*arguments)
