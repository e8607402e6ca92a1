"""The teacher's term against its definition, and its equality over numbers of processes with unequally many scores.

Shape suffixes: Q queries, N hard-negative slots, M a passage and its N hard negatives, H embedding width.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybatch.errors import UserError
from hybatch.losses import (
    EMPTY_SLOT,
    LESSONS,
    ContrastiveConfig,
    ContrastiveLoss,
    FilterConfig,
    LossTerms,
    TeacherConfig,
)
from tests.processes import run_processes

TEMPERATURE = 0.1
kinds = pytest.mark.parametrize("kind", LESSONS)


@dataclass(frozen=True)
class Problem:
    """A whole batch in float64; row i of the passages is the positive of query i."""

    queries: Tensor
    passages: Tensor
    negatives: Tensor
    groups: Tensor
    negative_groups: Tensor
    scores: Tensor


def _problem(seed: int, *, batch: int = 8, slots: int = 2, share_missing: float = 0.3) -> Problem:
    generator = torch.Generator().manual_seed(seed)

    def rows(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)

    scores = 4 * torch.randn(batch, 1 + slots, generator=generator)
    missing = torch.rand(batch, 1 + slots, generator=generator) < share_missing
    return Problem(
        queries=rows(batch, 6),
        passages=rows(batch, 6),
        negatives=rows(batch, slots, 6),
        groups=torch.randint(0, 5, (batch,), generator=generator),
        negative_groups=torch.randint(EMPTY_SLOT, 5, (batch, slots), generator=generator),
        scores=scores.masked_fill(missing, math.nan),
    )


def _softmax(values: np.ndarray) -> np.ndarray:
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def _oracle(problem: Problem, config: TeacherConfig) -> tuple[float, int]:
    """Mean over the queries that are taught, one after the other straight from the definition, and their number."""
    losses = []
    for q in range(len(problem.queries)):
        scores = problem.scores[q].double().numpy() / config.temperature
        groups = problem.negative_groups[q].tolist()
        there = [
            1 + n
            for n, group in enumerate(groups)
            if group not in (EMPTY_SLOT, int(problem.groups[q])) and not math.isnan(scores[1 + n])
        ]
        if math.isnan(scores[0]) or not there:
            continue
        compared = torch.cat([problem.passages[q : q + 1], problem.negatives[q]]).numpy()
        cosines = compared @ problem.queries[q].numpy()
        if config.kind == "kl":
            teacher, student = (_softmax(of[[0, *there]]) for of in (scores, cosines / TEMPERATURE))
            losses.append(float(np.sum(teacher * np.log(teacher / student))))
        else:
            apart = [(cosines[0] - cosines[n]) - (scores[0] - scores[n]) for n in there]
            losses.append(float(np.mean(np.square(apart))))
    return (float(np.mean(losses)) if losses else 0.0), len(losses)


def _terms(problem: Problem, config: TeacherConfig, rows: slice, **options: Any) -> tuple[LossTerms, list[Tensor]]:
    loss = ContrastiveLoss(temperature=TEMPERATURE, teacher=config, **options)
    leaves = [of[rows].float().requires_grad_() for of in (problem.queries, problem.passages, problem.negatives)]
    terms = loss.terms(
        *leaves,
        groups_Q=problem.groups[rows],
        negative_groups_QN=problem.negative_groups[rows],
        scores_QM=problem.scores[rows],
    )
    return terms, leaves


@kinds
@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    batch=st.integers(1, 9),
    slots=st.integers(1, 4),
    share_missing=st.sampled_from([0.0, 0.3, 1.0]),
    temperature=st.sampled_from([0.5, 1.0, 8.0]),
)
def test_the_term_is_that_of_the_definition_and_its_gradient_is_finite(
    kind: str, seed: int, batch: int, slots: int, share_missing: float, temperature: float
) -> None:
    problem = _problem(seed, batch=batch, slots=slots, share_missing=share_missing)
    config = TeacherConfig(kind=kind, weight=0.5, temperature=temperature)
    terms, leaves = _terms(problem, config, slice(None))
    expected, taught = _oracle(problem, config)
    assert terms.teacher is not None
    assert terms.teacher.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert terms.taught == taught
    alone = ContrastiveLoss(temperature=TEMPERATURE)(
        *leaves, groups_Q=problem.groups, negative_groups_QN=problem.negative_groups
    )
    assert terms.loss.item() == pytest.approx(alone.item() + 0.5 * terms.teacher.item(), rel=1e-5, abs=1e-6)
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(terms.loss, leaves))


@kinds
def test_the_term_is_nothing_where_the_student_scores_as_the_teacher_and_its_gradient_leads_there(kind: str) -> None:
    problem = _problem(3, share_missing=0.0)
    cosines = torch.linalg.vecdot(
        problem.queries[:, None], torch.cat([problem.passages[:, None], problem.negatives], dim=1)
    ).float()
    same = cosines / TEMPERATURE if kind == "kl" else cosines
    agreed = Problem(**{**problem.__dict__, "scores": same + 3.0})  # what all scores have in common says nothing
    config = TeacherConfig(kind=kind)
    found, _ = _terms(agreed, config, slice(None))
    assert found.teacher is not None
    assert found.teacher.item() == pytest.approx(0, abs=1e-6)
    before, leaves = _terms(problem, config, slice(None))
    gradients = torch.autograd.grad(before.loss, leaves)
    plain = ContrastiveLoss(temperature=TEMPERATURE)(
        *leaves, groups_Q=problem.groups, negative_groups_QN=problem.negative_groups
    )
    without = torch.autograd.grad(plain, leaves)
    moved = [(of - 0.01 * (g - w)).detach() for of, g, w in zip(leaves, gradients, without, strict=True)]
    after, _ = _terms(Problem(moved[0], moved[1], moved[2], problem.groups, problem.negative_groups, problem.scores),
                      config, slice(None))  # fmt: skip
    assert after.teacher is not None
    assert before.teacher is not None
    assert after.teacher < before.teacher


CASES = [
    (kind, gather, filtered)
    for kind, (gather, filtered) in itertools.product(LESSONS, [("all", True), ("ring", False)])
]


def _loss_of_rows(case: tuple[str, str, bool], rows: slice, gather: str | None = None) -> Any:
    kind, own_gather, filtered = case
    problem = _problem(11, share_missing=0.4)
    # Of four processes one has no scores, and the others unequally many.
    problem.scores[:2] = math.nan
    options: dict[str, Any] = {
        "gather": gather or own_gather,
        "filter": FilterConfig(ratio=0.5) if filtered else None,
    }
    terms, leaves = _terms(problem, TeacherConfig(kind=kind, temperature=2.0), rows, **options)
    terms.loss.backward()
    gradients = torch.cat([leaf.grad.reshape(len(leaves[0]), -1) for leaf in leaves if leaf.grad is not None], dim=1)
    assert terms.teacher is not None
    assert terms.taught is not None
    return terms.loss.detach(), terms.teacher, int(terms.taught), gradients


def _losses_of_own_rows() -> list[Any]:
    share = 8 // dist.get_world_size()
    rows = slice(dist.get_rank() * share, (dist.get_rank() + 1) * share)
    return [_loss_of_rows(case, rows) for case in CASES]


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_together_hold_the_loss_and_gradients_of_one_process_on_the_whole_batch(world_size: int) -> None:
    per_process = run_processes(_losses_of_own_rows, world_size)
    for index, case in enumerate(CASES):
        loss, teacher, taught, gradient = _loss_of_rows(case, slice(None), "all")
        for part, whole in ((0, loss), (1, teacher)):
            mean = torch.stack([results[index][part] for results in per_process]).mean()
            assert mean.item() == pytest.approx(whole.item(), rel=1e-5)
        assert [results[index][2] for results in per_process] == [taught] * world_size
        # The gradients sum over processes and strategies average them, hence the division.
        joined = torch.cat([results[index][3] for results in per_process]) / world_size
        assert (joined - gradient).norm() <= 1e-5 * gradient.norm()
    assert per_process[0][0][1] == 0 or world_size == 2
    assert len({float(results[0][1]) for results in per_process}) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -0.5}, r"loss\.teacher\.weight is -0\.5: it must be a number from 0 to"),
        ({"temperature": 0.0}, r"loss\.teacher\.temperature is 0\.0"),
        ({"kind": "mse"}, r"loss\.teacher\.kind is 'mse': it must be one of kl, margin-mse"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TeacherConfig(**options)


def test_a_teacher_needs_hard_negatives_and_scores() -> None:
    with pytest.raises(UserError, match="compares a passage with its hard negatives, but loss.hard_negatives is 0"):  # noqa: RUF043
        ContrastiveConfig(teacher=TeacherConfig())
    loss = ContrastiveConfig(teacher=TeacherConfig(), hard_negatives=1).build()
    with pytest.raises(ValueError, match="scores_QM: None, but the loss asks for them"):
        loss.terms(torch.eye(2), torch.eye(2), groups_Q=torch.arange(2))
