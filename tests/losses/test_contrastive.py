"""InfoNCE against an independent oracle, and its equality over numbers of processes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.errors import UserError
from hybatch.losses import EMPTY_SLOT, UNKNOWN_GROUP, ContrastiveConfig, ContrastiveLoss
from hybatch.losses.several_positives import Form
from tests.losses.batches import BATCH, WIDTH, Batch, Share, assert_joined, own_rows, random_batch, side_by_side
from tests.losses.further import loss_of_rows, random_problem
from tests.losses.widths import DIMENSIONS, NESTED, rounds_of_candidates
from tests.processes import run_processes

Computed = Literal["dense", "streaming", "ring"]
COMPUTED: list[Computed] = ["dense", "streaming"]
both = pytest.mark.parametrize("computed", COMPUTED)


def _build(computed: Computed, temperature: float, symmetric: bool = False) -> ContrastiveLoss:
    if computed == "ring":
        return ContrastiveLoss(temperature=temperature, symmetric=symmetric, gather="ring")
    return ContrastiveLoss(temperature=temperature, symmetric=symmetric, implementation=computed)


def _problem(seed: int, num_slots: int, num_groups: int) -> Batch:
    return Batch(**random_batch(torch.Generator().manual_seed(seed), slots=num_slots, num_groups=num_groups))


def _oracle(problem: Batch, temperature: float, symmetric: bool) -> float:
    """Numpy float64, one query after the other, straight from the definition."""
    queries, passages, groups = (rows.numpy() for rows in (problem.queries, problem.passages, problem.groups))
    flat_negatives, flat_groups = problem.negatives.flatten(0, 1).numpy(), problem.negative_groups.flatten().numpy()

    def row(anchor: np.ndarray, own: int, others: np.ndarray, extra: bool) -> float:
        logits = [anchor @ others[own] / temperature]
        logits += [anchor @ others[j] / temperature for j in range(len(others)) if groups[j] != groups[own]]
        if extra:
            wanted = (flat_groups != EMPTY_SLOT) & (flat_groups != groups[own])
            logits += list(flat_negatives[wanted] @ anchor / temperature)
        peak = max(logits)
        return peak + math.log(sum(math.exp(x - peak) for x in logits)) - logits[0]

    forward = np.mean([row(queries[i], i, passages, True) for i in range(len(queries))])
    if not symmetric:
        return float(forward)
    return float((forward + np.mean([row(passages[i], i, queries, False) for i in range(len(queries))])) / 2)


def _share(problem: Batch, rows: slice, loss: ContrastiveLoss) -> Share:
    """The loss of the given rows and the gradient of their embeddings."""
    leaves = problem.leaves(rows)
    value = loss(**problem.compared(leaves, rows))
    value.backward()
    return Share((value.detach(),), side_by_side(leaves))


def _loss(problem: Batch, loss: ContrastiveLoss) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the whole batch, and the gradient of its embeddings."""
    (value,), gradient, _ = _share(problem, slice(None), loss)
    return value, gradient


@both
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    num_slots=st.integers(0, 3),
    num_groups=st.integers(1, 10),
    temperature=st.sampled_from([0.01, 0.05, 1.0]),
    symmetric=st.booleans(),
)
def test_the_loss_equals_the_definition(
    computed: Computed, seed: int, num_slots: int, num_groups: int, temperature: float, symmetric: bool
) -> None:
    problem = _problem(seed, num_slots, num_groups)
    value, _ = _loss(problem, _build(computed, temperature, symmetric))
    assert value.item() == pytest.approx(_oracle(problem, temperature, symmetric), rel=1e-4, abs=2e-5)


@both
def test_a_batch_of_one_passage_group_has_no_negatives_and_no_loss(computed: Computed) -> None:
    problem = _problem(0, 2, 1)
    problem.negative_groups.fill_(EMPTY_SLOT)
    value, gradient = _loss(problem, _build(computed, 0.05, symmetric=True))
    assert value.item() == 0.0
    assert torch.equal(gradient, torch.zeros_like(gradient))


@both
def test_a_hard_negative_of_unknown_group_always_counts_and_an_empty_slot_never(computed: Computed) -> None:
    problem = _problem(1, 1, 1)
    problem.negative_groups.fill_(UNKNOWN_GROUP)
    _, gradient = _loss(problem, _build(computed, 0.05))
    assert (gradient[:, 2 * WIDTH :].abs().sum(1) > 0).all()
    problem.negative_groups.fill_(EMPTY_SLOT)
    _, gradient = _loss(problem, _build(computed, 0.05))
    assert not gradient[:, 2 * WIDTH :].any()


@both
def test_opposite_vectors_at_temperature_001_give_finite_loss_and_gradients(computed: Computed) -> None:
    made = _problem(2, 0, 100)
    problem = replace(made, groups=torch.arange(BATCH), passages=-made.queries)
    value, gradient = _loss(problem, _build(computed, 0.01, symmetric=True))
    assert torch.isfinite(value)
    assert value > 50
    assert torch.isfinite(gradient).all()


@both
def test_sixteen_bit_embeddings_are_scored_in_float32(computed: Computed) -> None:
    problem = _problem(3, 2, 100)
    short = [rows.bfloat16() for rows in problem.leaves()]
    queries, passages, negatives = (rows.detach().double() for rows in short)
    rounded = replace(problem, queries=queries, passages=passages, negatives=negatives)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = _build(computed, 0.01)(**problem.compared(short))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(_oracle(rounded, 0.01, False), rel=1e-4)


Case = tuple[int, int, bool, Computed]
CASES: list[Case] = [
    (slots, groups, symmetric, computed)
    for slots in (0, 2)
    for groups in (3, 50)
    for symmetric in (False, True)
    for computed in (*COMPUTED, "ring")
]


SEVERAL: list[tuple[int, int, bool, Computed, Form]] = [(*case, form) for case in CASES for form in ("mean", "log-sum")]


def _build_several(computed: Computed, symmetric: bool, form: Form) -> ContrastiveLoss:
    loss = _build(computed, 0.02, symmetric)
    loss.positives = form
    return loss


def _losses_of_own_rows() -> dict[str, Any]:
    rank, world_size = dist.get_rank(), dist.get_world_size()
    return {
        "plain": [
            _share(_problem(7, slots, groups), own_rows(), _build(computed, 0.02, symmetric))
            for slots, groups, symmetric, computed in CASES
        ],
        "several": [
            loss_of_rows(random_problem(7, slots, groups), _build_several(computed, symmetric, form), rank, world_size)
            for slots, groups, symmetric, computed, form in SEVERAL
        ],
        "nested": [case.loss_of_rows(rank, world_size) for case in NESTED],
        "rounds": [rounds_of_candidates(dimensions) for dimensions in (DIMENSIONS, None)],
    }


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_together_hold_the_loss_and_gradients_of_one_process_on_the_whole_batch(world_size: int) -> None:
    of_ranks = run_processes(_losses_of_own_rows, world_size)
    for index, (slots, groups, symmetric, _) in enumerate(CASES):
        whole = _share(_problem(7, slots, groups), slice(None), _build("dense", 0.02, symmetric))
        assert_joined([found["plain"][index] for found in of_ranks], whole, rel=1e-6)
    for index, (slots, groups, symmetric, _, form) in enumerate(SEVERAL):
        whole_loss, parts = loss_of_rows(random_problem(7, slots, groups), _build_several("dense", symmetric, form))
        losses = torch.stack([found["several"][index][0] for found in of_ranks])
        assert losses.mean().item() == pytest.approx(whole_loss.item(), rel=1e-6)
        for part, gradient in enumerate(parts):
            mine = torch.cat([found["several"][index][1][part] for found in of_ranks]) / world_size
            assert (mine - gradient).norm() <= 1e-5 * gradient.norm()
    for index, case in enumerate(NESTED):
        case.compare([found["nested"][index] for found in of_ranks])
    # Whatever the number of widths, whole embeddings go round once.
    assert all(of_widths == of_one and min(of_one) > 0 for of_widths, of_one in (found["rounds"] for found in of_ranks))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"hard_negatives": -1}, "hard_negatives"),
        ({"implementation": "sparse"}, "implementation"),
        ({"gather": "some"}, "gather"),
        (
            {"gather": "ring", "implementation": "dense"},
            "loss.implementation dense .* leave loss.implementation at auto",
        ),
    ],
)
def test_impossible_options_are_named(options: dict[str, float | str], word: str) -> None:
    with pytest.raises(UserError, match=word):
        ContrastiveConfig(**options)  # type: ignore[arg-type]
