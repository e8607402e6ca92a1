"""The teacher's term against its definition, and its equality over numbers of processes with unequally many scores.

Shape suffixes: Q queries, N hard-negative slots, M a passage and its N hard negatives, H embedding width.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
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
from tests.losses.batches import Batch, Share, assert_processes_agree, random_batch, side_by_side

TEMPERATURE = 0.1
kinds = pytest.mark.parametrize("kind", LESSONS)


@dataclass(frozen=True)
class Problem(Batch):
    """With a teacher's scores [batch, M]; NaN for one that is not known."""

    scores: Tensor


def _problem(seed: int, *, batch: int = 8, slots: int = 2, share_missing: float = 0.3) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    scores = 4 * torch.randn(batch, 1 + slots, generator=generator)
    missing = torch.rand(batch, 1 + slots, generator=generator) < share_missing
    return Problem(
        **random_batch(generator, batch=batch, slots=slots, num_groups=5), scores=scores.masked_fill(missing, math.nan)
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
    leaves = problem.leaves(rows)
    return loss.terms(**problem.compared(leaves, rows), scores_QM=problem.scores[rows]), leaves


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
    alone = ContrastiveLoss(temperature=TEMPERATURE)(**problem.compared(leaves))
    assert terms.loss.item() == pytest.approx(alone.item() + 0.5 * terms.teacher.item(), rel=1e-5, abs=1e-6)
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(terms.loss, leaves))


@kinds
def test_the_term_is_nothing_where_the_student_scores_as_the_teacher_and_its_gradient_leads_there(kind: str) -> None:
    problem = _problem(3, share_missing=0.0)
    cosines = torch.linalg.vecdot(
        problem.queries[:, None], torch.cat([problem.passages[:, None], problem.negatives], dim=1)
    ).float()
    same = cosines / TEMPERATURE if kind == "kl" else cosines
    agreed = replace(problem, scores=same + 3.0)  # what all scores have in common says nothing
    config = TeacherConfig(kind=kind)
    found, _ = _terms(agreed, config, slice(None))
    assert found.teacher is not None
    assert found.teacher.item() == pytest.approx(0, abs=1e-6)
    before, leaves = _terms(problem, config, slice(None))
    gradients = torch.autograd.grad(before.loss, leaves)
    plain = ContrastiveLoss(temperature=TEMPERATURE)(**problem.compared(leaves))
    without = torch.autograd.grad(plain, leaves)
    moved = [(of - 0.01 * (g - w)).detach() for of, g, w in zip(leaves, gradients, without, strict=True)]
    nearer = replace(problem, queries=moved[0], passages=moved[1], negatives=moved[2])
    after, _ = _terms(nearer, config, slice(None))
    assert after.teacher is not None
    assert before.teacher is not None
    assert after.teacher < before.teacher


CASES = [
    (kind, gather, filtered)
    for kind, (gather, filtered) in itertools.product(LESSONS, [("all", True), ("ring", False)])
]


def _share(case: tuple[str, str, bool], rows: slice, gather: str | None = None) -> Share:
    """Loss and term of the given rows, gradients, how many are taught."""
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
    assert terms.teacher is not None
    assert terms.taught is not None
    return Share((terms.loss.detach(), terms.teacher), side_by_side(leaves), (int(terms.taught),))


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_together_hold_the_loss_and_gradients_of_one_process_on_the_whole_batch(world_size: int) -> None:
    found = assert_processes_agree(_share, CASES, world_size)
    of_first_case = [float(share.shares[1]) for share in found[0]]
    assert of_first_case[0] == 0 or world_size == 2
    assert len(set(of_first_case)) > 1


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
