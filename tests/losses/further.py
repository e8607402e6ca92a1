"""Batches whose queries have several positives, what their loss is by definition, and any process's share of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybatch.losses import EMPTY_SLOT, FurtherPositives, LossTerms
from hybatch.losses.contrastive import ContrastiveLoss
from hybatch.losses.several_positives import Form
from tests.losses.batches import BATCH, WIDTH, unit_rows

MOST = 4


@dataclass(frozen=True)
class Problem:
    """Positives [B][p] and weights of queries [B, H]; hard negatives [B, N, H]; float64."""

    queries: torch.Tensor
    positives: list[torch.Tensor]
    weights: list[list[float]]
    negatives: torch.Tensor
    groups: torch.Tensor
    negative_groups: torch.Tensor


def random_problem(seed: int, num_slots: int, num_groups: int, *, most: int = MOST) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, most + 1, (BATCH,), generator=generator).tolist()
    scores = [torch.rand(count, generator=generator, dtype=torch.float64) + 0.1 for count in counts]
    return Problem(
        queries=unit_rows(generator, BATCH, WIDTH),
        positives=[unit_rows(generator, count, WIDTH) for count in counts],
        weights=[(score / score.sum()).tolist() for score in scores],
        negatives=unit_rows(generator, BATCH, num_slots, WIDTH),
        groups=torch.randint(0, num_groups, (BATCH,), generator=generator),
        negative_groups=torch.randint(EMPTY_SLOT, num_groups, (BATCH, num_slots), generator=generator),
    )


def _minus_log_share(wanted: NDArray[np.float64], others: list[float]) -> float:
    """-log of the share that `wanted` have of a softmax over them and `others`."""
    return float(np.logaddexp.reduce([*wanted, *others]) - np.logaddexp.reduce(wanted))


def defined_loss(
    problem: Problem, form: Form, temperature: float, symmetric: bool, *, margin: float | None = None
) -> float:
    """One query after the other, and one positive after the other.

    With a margin, what scores above a query's passage by more than this is compared with it in neither direction, but
    for the query's own hard negatives.
    """
    queries, groups = problem.queries.numpy(), problem.groups.tolist()
    positives = [rows.numpy() for rows in problem.positives]
    hard = list(
        zip(problem.negatives.reshape(-1, WIDTH).numpy(), problem.negative_groups.flatten().tolist(), strict=True)
    )
    there, back = [], []

    def takes_part(i: int, row: NDArray[np.float64]) -> bool:
        return margin is None or float(queries[i] @ row) <= float(queries[i] @ positives[i][0]) + margin

    for i, query in enumerate(queries):
        others = [
            row for j, rows in enumerate(positives) if groups[j] != groups[i] for row in rows if takes_part(i, row)
        ]
        others += [
            row
            for place, (row, group) in enumerate(hard)
            if group not in (EMPTY_SLOT, groups[i]) and (place // problem.negatives.shape[1] == i or takes_part(i, row))
        ]
        negatives = [float(row @ query / temperature) for row in others]
        own = positives[i] @ query / temperature
        weights = problem.weights[i]
        if form == "log-sum":
            there.append(_minus_log_share(own, negatives))
        else:
            there.append(sum(w * _minus_log_share(own[k : k + 1], negatives) for k, w in enumerate(weights)))
        for w, row, logit in zip(weights, positives[i], own, strict=True):
            asking = [queries[j] for j in range(BATCH) if groups[j] != groups[i] and takes_part(j, row)]
            back.append(w * _minus_log_share(np.array([logit]), [float(q @ row / temperature) for q in asking]))
    return float(sum(there) + sum(back)) / BATCH / 2 if symmetric else float(sum(there)) / BATCH


def further_positives(problem: Problem, rank: int = 0, world_size: int = 1) -> FurtherPositives:
    """Those of a process's rows, a leaf; what stands in an empty slot must not matter."""
    share = BATCH // world_size
    rows = range(rank * share, (rank + 1) * share)
    counts = np.array([len(listed) - 1 for listed in problem.positives]).reshape(world_size, share)
    num_empty = int(counts.sum(1).max() - counts[rank].sum())
    others = [problem.positives[row][1:] for row in rows]
    empty = torch.full((num_empty, WIDTH), 0.5, dtype=torch.float64)
    answered = [row for row, listed in enumerate(others) for _ in listed]
    weights = [weight for row in rows for weight in problem.weights[row][1:]]
    return FurtherPositives(
        passages_EH=torch.cat([*others, empty]).float().requires_grad_(),
        query_E=torch.tensor(answered + [share] * num_empty, dtype=torch.int64),
        weights_Q=torch.tensor([problem.weights[row][0] for row in rows]),
        weights_E=torch.tensor(weights + [0.0] * num_empty),
        most=max(map(len, problem.positives)),
    )


def loss_of_rows(
    problem: Problem,
    loss: ContrastiveLoss,
    rank: int = 0,
    world_size: int = 1,
    *,
    trained: bool = False,
    several: bool = True,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss of a process's rows, and the gradients of their queries, passages, hard negatives, further positives.

    Those of further positives are without the empty slots.

    Args:
        trained: the loss as training asks for it, with all its terms.
        several: whether it is told of several positives, if there should be none but one of each query.
    """
    share = BATCH // world_size
    rows = range(rank * share, (rank + 1) * share)
    further = further_positives(problem, rank, world_size)
    first = torch.stack([problem.positives[row][0] for row in rows])
    given = (problem.queries[rows], first, problem.negatives[rows])
    queries, passages, negatives = leaves = [part.float().requires_grad_() for part in given]
    compared = (queries, passages, negatives if negatives.shape[1] else None)
    labels: dict[str, Any] = {
        "groups_Q": problem.groups[rows],
        "negative_groups_QN": problem.negative_groups[rows] if negatives.shape[1] else None,
        "further": further if several else None,
    }
    value = loss.terms(*compared, **labels).loss if trained else loss(*compared, **labels)
    value.backward()
    leaves.append(further.passages_EH)
    gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    num_own = int((further.query_E < share).sum())
    assert not gradients[3][num_own:].any()
    return value.detach(), [*gradients[:3], gradients[3][:num_own]]


def terms_of_all(problem: Problem, loss: ContrastiveLoss) -> LossTerms:
    """The loss of the whole batch with its terms."""
    return loss.terms(
        problem.queries.float(),
        torch.stack([rows[0] for rows in problem.positives]).float(),
        problem.negatives.float(),
        groups_Q=problem.groups,
        negative_groups_QN=problem.negative_groups,
        further=further_positives(problem),
    )
