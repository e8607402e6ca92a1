"""Losses of leading dimensions: what they are by definition, in float64 on the whole batch, and any process's share."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Literal
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from hybatch.losses import EMPTY_SLOT, ContrastiveLoss, FilterConfig, ring
from hybatch.losses.several_positives import Form
from tests.losses.batches import BATCH
from tests.losses.further import Problem, loss_of_rows, random_problem

Computed = Literal["dense", "streaming", "ring"]
DIMENSIONS: dict[int, float] = {6: 1.0, 4: 0.5, 1: 2.0}


@dataclass(frozen=True)
class Nested:
    """A loss of leading dimensions.

    Attributes:
        form: of several positives; None for one each.
        margin: of a filter that goes by whole embeddings; None for no filter.
    """

    computed: Computed
    form: Form | None
    symmetric: bool
    margin: float | None
    slots: int = 2
    num_groups: int = 6
    seed: int = 3
    temperature: float = 0.1

    def problem(self) -> Problem:
        return random_problem(self.seed, self.slots, self.num_groups, most=4 if self.form else 1)

    def build(self) -> ContrastiveLoss:
        return ContrastiveLoss(
            temperature=self.temperature,
            symmetric=self.symmetric,
            implementation="auto" if self.computed == "ring" else self.computed,
            gather="ring" if self.computed == "ring" else "all",
            positives=self.form or "mean",
            filter=None if self.margin is None else FilterConfig(margin=self.margin),
            dimensions=DIMENSIONS,
        )

    def loss_of_rows(self, rank: int = 0, world_size: int = 1) -> tuple[Tensor, list[Tensor]]:
        several = self.form is not None
        return loss_of_rows(self.problem(), self.build(), rank, world_size, trained=True, several=several)

    def compare(self, of_ranks: Sequence[tuple[Tensor, list[Tensor]]]) -> None:
        """Assert that processes together found what the loss and its gradients are."""
        defined, gradients = self.defined()
        loss = torch.stack([found for found, _ in of_ranks]).mean()
        assert loss.item() == pytest.approx(defined, rel=1e-4, abs=2e-5)
        for part, expected in enumerate(gradients):
            # The gradients sum over processes and strategies average them, hence the division.
            found = torch.cat([parts[part] for _, parts in of_ranks]) / len(of_ranks)
            assert (found - expected).norm() <= 5e-5 * expected.norm() + 1e-6, (self, part)

    def distance_to_a_limit(self) -> float:
        """How near a score comes to the filter's limit."""
        queries, positives, hard = _rows(self.problem())
        candidates = torch.cat([*positives, hard])
        own = torch.stack([query @ rows[0] for query, rows in zip(queries, positives, strict=True)])
        return float((queries @ candidates.T - own[:, None] - (self.margin or 0.0)).abs().min())

    def defined(self) -> tuple[float, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The loss, and its gradients by queries, passages, hard negatives and further positives."""
        problem = self.problem()
        queries, positives, hard = _rows(problem)
        leaves = [queries, *positives, hard]
        for leaf in leaves:
            leaf.requires_grad_()
        total = torch.zeros((), dtype=torch.float64)
        for width, weight in DIMENSIONS.items():
            total = total + weight * self._of_width(problem, queries, positives, hard, width)
        found = torch.autograd.grad(total / BATCH, leaves, allow_unused=True)
        of_queries, *of_positives, of_hard = (
            torch.zeros_like(leaf) if gradient is None else gradient
            for leaf, gradient in zip(leaves, found, strict=True)
        )
        passages, others = torch.stack([rows[0] for rows in of_positives]), torch.cat([r[1:] for r in of_positives])
        return float(total.detach() / BATCH), (of_queries, passages, of_hard.view_as(problem.negatives), others)

    def _of_width(self, problem: Problem, queries: Tensor, positives: list[Tensor], hard: Tensor, width: int) -> Tensor:
        """Sum over the queries, one after the other, and one positive after the other."""
        candidates = torch.cat([*positives, hard])
        answered = torch.repeat_interleave(torch.tensor([len(rows) for rows in positives]))
        groups = torch.cat([problem.groups[answered], problem.negative_groups.flatten()])
        scores = (queries @ candidates.T).detach()
        is_compared = (groups != EMPTY_SLOT) & (groups != problem.groups[:, None])
        if self.margin is not None:
            first = torch.searchsorted(answered, torch.arange(BATCH))
            own = scores[torch.arange(BATCH), first]
            spared = torch.arange(len(hard)) // max(1, self.slots) == torch.arange(BATCH)[:, None]
            spared = torch.cat([torch.zeros(BATCH, len(answered), dtype=torch.bool), spared], dim=1)
            is_compared &= spared | (scores <= own[:, None] + self.margin)
        if width < queries.shape[1]:
            queries, candidates = (
                rows[:, :width] / rows[:, :width].norm(dim=1)[:, None] for rows in (queries, candidates)
            )
        logits = queries @ candidates.T / self.temperature
        there, back = [], []
        for i in range(BATCH):
            negatives, own = logits[i, is_compared[i]], logits[i, : len(answered)][answered == i]
            if self.form == "log-sum":
                there.append(torch.cat([own, negatives]).logsumexp(0) - own.logsumexp(0))
            for weight, column in zip(problem.weights[i], (answered == i).nonzero().flatten(), strict=True):
                mine, asking = logits[i, column, None], logits[is_compared[:, column], column]
                if self.form != "log-sum":
                    there.append(weight * (torch.cat([mine, negatives]).logsumexp(0) - mine[0]))
                back.append(weight * (torch.cat([mine, asking]).logsumexp(0) - mine[0]))
        forward = torch.stack(there).sum()
        return (forward + torch.stack(back).sum()) / 2 if self.symmetric else forward


def _rows(problem: Problem) -> tuple[Tensor, list[Tensor], Tensor]:
    """Queries, positives and hard negatives as float32 has them."""
    hard = problem.negatives.flatten(0, 1)
    queries, *positives, hard = (rows.float().double() for rows in (problem.queries, *problem.positives, hard))
    return queries, positives, hard


def rounds_of_candidates(dimensions: Mapping[int, float] | None) -> list[int]:
    """How often embeddings are gathered, their gradients brought back, and blocks passed round in a step."""
    collectives = import_module("hybatch.losses.gather")  # the package has a function of this name
    with (
        patch.object(collectives, "_all_gather", wraps=collectives._all_gather) as gathered,
        patch.object(collectives, "_reduce_scatter", wraps=collectives._reduce_scatter) as brought_back,
        patch.object(ring, "passing_blocks", wraps=ring.passing_blocks) as passed,
    ):
        for computed in ("streaming", "ring"):
            case = Nested(computed, "mean", True, None)
            loss = case.build()
            loss.dimensions = dimensions
            loss_of_rows(case.problem(), loss, dist.get_rank(), dist.get_world_size(), trained=True)
        return [gathered.call_count, brought_back.call_count, passed.call_count]


NESTED = [
    Nested(computed, form, symmetric, margin)
    for computed, form in itertools.product(("dense", "streaming", "ring"), (None, "mean", "log-sum"))
    for symmetric, margin in ((True, 0.2), (False, None), (True, None))
]
