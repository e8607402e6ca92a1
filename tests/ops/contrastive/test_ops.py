"""The three contrastive ops of every backend against a dense float64 reference.

Shape suffixes: Q queries, D candidates, H embedding width.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybatch.ops.contrastive import pack_pairs, unpack_pairs
from hybatch.ops.contrastive.backend import ContrastiveOps, contrastive_ops
from tests.ops.conftest import Place
from tests.ops.contrastive.oracle import EPSILON, Problem, lse_bound, make_problem, reference

SIZES = st.integers(1, 300)
# The torch backend's default tile holds problems of this size whole; its smaller tiles take every other path.
BLOCKS = st.sampled_from([None, 1000, 64, 17])

# Below so many numbers a gradient's norm is that of a few sums.
_FEW = 256


def _ones(problem: Problem) -> tuple[Tensor, Tensor]:
    ones_Q = torch.ones(len(problem.queries), device=problem.queries.device)
    return ones_Q, -ones_Q


def _dense_errors(problem: Problem, grads: tuple[Tensor, Tensor, Tensor | None], exact: list[Tensor]) -> list[float]:
    """How far dense float32 torch is from the same gradients."""
    queries, candidates, positive_index, query_groups, candidate_groups, scale = problem.pairs()
    leaves = [tensor.detach().float().requires_grad_() for tensor in (queries, candidates)]
    logits_QD = leaves[0] @ leaves[1].T * scale
    left_out_QD = (query_groups[:, None] == candidate_groups) & (candidate_groups >= 0) | (candidate_groups == -2)
    if problem.left_out is not None:
        left_out_QD |= problem.left_out
    left_out_QD[torch.arange(len(queries)), positive_index] = False
    masked_QD = logits_QD.masked_fill(left_out_QD, float("-inf"))
    row_lse, positive_Q = torch.logsumexp(masked_QD, 1), logits_QD[torch.arange(len(queries)), positive_index]
    total = (grads[0] * row_lse + grads[1] * positive_Q).sum()
    if grads[2] is not None:
        column_lse = torch.logsumexp(masked_QD, 0)
        reached = column_lse.isfinite()
        total = total + (grads[2][reached] * column_lse[reached]).sum()
    found = torch.autograd.grad(total, leaves)
    return [float((mine.double() - true).norm()) for mine, true in zip(found, exact, strict=True)]


def _assert_gradients(problem: Problem, found: tuple[Tensor, ...], grads: tuple[Tensor, Tensor, Tensor | None]) -> None:
    true = reference(problem, *grads)
    exact = [true.grad_queries, true.grad_candidates]
    relative = 8 * EPSILON * (1 + true.largest_logit)
    dense_errors = _dense_errors(problem, grads, exact)
    chains = _chains(problem)
    for mine, wanted, dense, size, chain in zip(found, exact, dense_errors, true.sizes, chains, strict=False):
        assert mine.dtype == torch.float32
        error = float((mine.double() - wanted).norm())
        assert error <= (relative + chain) * size
        # Dense torch is at times lucky: what the rounding of one log-sum-exp does to its weights is always allowed.
        assert error <= 2 * dense + (max(8.0, 2 * (1 + true.largest_logit)) * EPSILON + chain) * size
    assert float((found[2].double() - true.grad_scale).abs()) <= (relative + chains[0]) * true.sizes[2]


def _chains(problem: Problem) -> tuple[float, float]:
    """What the roundings of one long sum may do to a gradient of few numbers, where no norm averages over many sums.

    Equal terms are rounded alike: one query of width 1 with 255 candidates is 42 roundings off, not the root of 255.
    """
    summed = (len(problem.candidates), len(problem.queries))
    numbers = (problem.queries.numel(), problem.candidates.numel())
    return tuple(length * EPSILON if number < _FEW else 0.0 for length, number in zip(summed, numbers, strict=True))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(
    seed=1, num_queries=1, num_candidates=255, width=1, num_groups=400, peak=1.0, block_size=None, share_left_out=None
)
@given(
    seed=st.integers(0, 2**32),
    num_queries=SIZES,
    num_candidates=SIZES,
    width=SIZES,
    num_groups=st.sampled_from([1, 3, 400]),
    peak=st.sampled_from([1.0, 20.0, 200.0]),
    block_size=BLOCKS,
    share_left_out=st.sampled_from([None, 0.02, 0.7]),
)
def test_log_sum_exps_and_gradients_equal_the_float64_reference(
    place: Place,
    seed: int,
    num_queries: int,
    num_candidates: int,
    width: int,
    num_groups: int,
    peak: float,
    block_size: int | None,
    share_left_out: float | None,
) -> None:
    problem = make_problem(
        seed,
        num_queries,
        num_candidates,
        width,
        num_groups=num_groups,
        peak=peak,
        device=place.device,
        share_left_out=share_left_out,
    )
    ops = contrastive_ops(place.backend, block_size)
    _check_one_pass(problem, ops)
    _check_two_passes_with_columns(problem, ops, seed)


def _check_one_pass(problem: Problem, ops: ContrastiveOps) -> None:
    grads = (*_ones(problem), None)
    true = reference(problem, *grads)
    bound = lse_bound(problem, true.largest_logit)
    row_lse, positive_logit, *gradients = ops.forward_backward(*problem.pairs(), problem.bits)
    assert (row_lse.double() - true.row_lse).abs().max() <= bound
    assert (positive_logit.double() - true.positive_logit).abs().max() <= bound
    _assert_gradients(problem, tuple(gradients), grads)


def _check_two_passes_with_columns(problem: Problem, ops: ContrastiveOps, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sizes = (len(problem.queries), len(problem.queries), len(problem.candidates))
    grads = tuple(torch.randn(size, generator=generator).to(problem.queries.device) for size in sizes)
    true = reference(problem, *grads)
    bound = lse_bound(problem, true.largest_logit)
    row_lse, positive_logit, column_lse = ops.forward(*problem.pairs(), True, problem.bits)
    assert (row_lse.double() - true.row_lse).abs().max() <= bound
    assert (positive_logit.double() - true.positive_logit).abs().max() <= bound
    reached_D = true.column_lse.isfinite()
    assert torch.equal(column_lse.isfinite(), reached_D)
    assert ((column_lse.double() - true.column_lse)[reached_D].abs() <= bound).all()
    gradients = ops.backward(*problem.pairs(), row_lse, grads[0], grads[1], column_lse, grads[2], problem.bits)
    _assert_gradients(problem, gradients, grads)


def test_a_query_whose_negatives_are_all_masked_has_no_loss_and_no_gradient(place: Place) -> None:
    problem = make_problem(0, 9, 30, 8, num_groups=1, device=place.device)
    problem.candidate_groups[::3] = -2
    problem.candidate_groups[problem.candidate_groups == -1] = 0
    for block_size in (None, 4):
        ops = contrastive_ops(place.backend, block_size)
        row_lse, positive_logit, *gradients = ops.forward_backward(*problem.pairs())
        assert torch.equal(row_lse, positive_logit)
        assert all(not gradient.any() for gradient in gradients)


def test_pairs_survive_being_packed_whatever_part_of_the_candidates_is_asked_for() -> None:
    pairs = torch.rand(7, 41, generator=torch.Generator().manual_seed(0)) < 0.5
    packed = pack_pairs(pairs)
    assert torch.equal(packed, torch.from_numpy(np.packbits(pairs.numpy(), axis=1, bitorder="little")))
    for start, stop in ((0, 41), (3, 11), (8, 16), (40, 41), (5, 5)):
        assert torch.equal(unpack_pairs(packed, slice(start, stop)), pairs[:, start:stop])


def test_a_positive_that_is_elsewhere_leaves_zero_and_a_query_without_candidates_minus_infinity(place: Place) -> None:
    problem = make_problem(1, 5, 12, 8, num_groups=1, device=place.device)
    problem.positive_index.fill_(-1)
    problem.candidate_groups.fill_(0)
    ops = contrastive_ops(place.backend, None)
    row_lse, positive_logit, column_lse = ops.forward(*problem.pairs(), True)
    assert (row_lse == float("-inf")).all()
    assert (column_lse == float("-inf")).all()
    assert not positive_logit.any()
    ones_Q, ones_D = torch.ones_like(row_lse), torch.ones_like(column_lse)
    gradients = ops.backward(*problem.pairs(), row_lse, ones_Q, ones_Q, column_lse, ones_D)
    assert all(not gradient.any() for gradient in gradients)


def test_blocks_of_candidates_add_up_to_the_whole(place: Place) -> None:
    """What a ring of processes does: each block alone, log-sum-exps joined, gradients from the joined ones."""
    problem = make_problem(2, 40, 60, 16, num_groups=8, device=place.device)
    queries, candidates, positive_index, query_groups, candidate_groups, scale = problem.pairs()
    ops = contrastive_ops(place.backend, None)
    whole = ops.forward_backward(*problem.pairs())
    blocks = []
    for start in (0, 25):
        rows = slice(start, 25 if start == 0 else 60)
        inside = (positive_index >= rows.start) & (positive_index < rows.stop)
        place_in_block = torch.where(inside, positive_index - start, -1)
        blocks.append(
            (queries, candidates[rows].contiguous(), place_in_block, query_groups, candidate_groups[rows], scale)
        )
    parts = [ops.forward(*block, False) for block in blocks]
    row_lse = torch.logaddexp(parts[0][0], parts[1][0])
    torch.testing.assert_close(row_lse, whole[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(parts[0][1] + parts[1][1], whole[1], rtol=1e-6, atol=1e-6)
    none, ones_Q = row_lse.new_zeros(0), torch.ones_like(row_lse)
    gradients = [ops.backward(*block, row_lse, ones_Q, -ones_Q, none, none) for block in blocks]
    torch.testing.assert_close(gradients[0][0] + gradients[1][0], whole[2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat([g[1] for g in gradients]), whole[3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block_size", [None, 7])
def test_repetition_gives_the_same_bits(place: Place, block_size: int | None) -> None:
    problem = make_problem(3, 150, 333, 40, device=place.device)
    run = functools.partial(contrastive_ops(place.backend, block_size).forward_backward, *problem.pairs())
    assert all(torch.equal(first, second) for first, second in zip(run(), run(), strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_embeddings_give_what_their_float32_values_give(place: Place, dtype: torch.dtype) -> None:
    problem = make_problem(4, 70, 90, 64, peak=50.0, dtype=dtype, device=place.device)
    ones_Q, minus_Q = _ones(problem)
    true = reference(problem, ones_Q, minus_Q, None)
    row_lse, _, grad_queries, grad_candidates, _ = contrastive_ops(place.backend, None).forward_backward(
        *problem.pairs()
    )
    assert row_lse.dtype == grad_queries.dtype == torch.float32
    assert (row_lse.double() - true.row_lse).abs().max() <= 0.01
    for mine, wanted in ((grad_queries, true.grad_queries), (grad_candidates, true.grad_candidates)):
        assert (mine.double() - wanted).norm() <= 0.01 * wanted.norm()


@pytest.mark.parametrize(("num_queries", "num_candidates"), [(0, 5), (0, 0)])
def test_no_queries_give_empty_results_and_no_gradient(place: Place, num_queries: int, num_candidates: int) -> None:
    problem = make_problem(5, num_queries, num_candidates, 6, device=place.device)
    ops = contrastive_ops(place.backend, None)
    row_lse, positive_logit, grad_queries, grad_candidates, grad_scale = ops.forward_backward(*problem.pairs())
    assert row_lse.shape == positive_logit.shape == (0,)
    assert grad_queries.shape == (0, 6)
    assert not grad_candidates.any()
    assert grad_scale == 0
