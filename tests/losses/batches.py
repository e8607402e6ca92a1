"""Batches of random unit vectors, and what processes find on their rows against what one finds on the whole batch.

Shape suffixes: Q queries of a process, N hard-negative slots, H embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from hybatch.losses import EMPTY_SLOT
from tests.processes import run_processes

BATCH, WIDTH = 8, 6


@dataclass(frozen=True)
class Batch:
    """A whole batch in float64; row i of the passages is the positive of query i."""

    queries: Tensor
    passages: Tensor
    negatives: Tensor
    groups: Tensor
    negative_groups: Tensor

    @property
    def candidates(self) -> Tensor:
        return torch.cat([self.passages, self.negatives.flatten(0, 1)])

    @property
    def candidate_groups(self) -> Tensor:
        return torch.cat([self.groups, self.negative_groups.flatten()])

    def leaves(self, rows: slice = slice(None)) -> list[Tensor]:
        """Queries, passages and hard negatives of some rows in float32, to be differentiated by."""
        every = (self.queries, self.passages, self.negatives)
        return [embeddings[rows].float().requires_grad_() for embeddings in every]

    def compared(self, leaves: Sequence[Tensor], rows: slice = slice(None)) -> dict[str, Any]:
        """What any loss takes of some rows, given their `leaves`: no hard negatives where they have no slots."""
        queries_QH, passages_QH, negatives_QNH = leaves
        has_slots = negatives_QNH.shape[1] > 0
        return {
            "queries_QH": queries_QH,
            "passages_QH": passages_QH,
            "negatives_QNH": negatives_QNH if has_slots else None,
            "groups_Q": self.groups[rows],
            "negative_groups_QN": self.negative_groups[rows] if has_slots else None,
        }


def unit_rows(generator: torch.Generator, *shape: int) -> Tensor:
    """Random vectors of unit length, float64."""
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def random_batch(
    generator: torch.Generator, *, slots: int, num_groups: int, batch: int = BATCH, width: int = WIDTH
) -> dict[str, Tensor]:
    """The fields of a `Batch`; few groups leave few negatives, and hard ones may be none."""
    return {
        "queries": unit_rows(generator, batch, width),
        "passages": unit_rows(generator, batch, width),
        "negatives": unit_rows(generator, batch, slots, width),
        "groups": torch.randint(0, num_groups, (batch,), generator=generator),
        "negative_groups": torch.randint(EMPTY_SLOT, num_groups, (batch, slots), generator=generator),
    }


class Share(NamedTuple):
    """What is found on some rows of a batch.

    Attributes:
        shares: of the loss, and of its terms, which all processes' average is.
        gradient: of the rows' embeddings, side by side.
        counts: of the whole batch, which every process knows.
    """

    shares: tuple[Tensor, ...]
    gradient: Tensor
    counts: tuple[int, ...] = ()


def side_by_side(leaves: Sequence[Tensor]) -> Tensor:
    """The gradients of embeddings, [rows, all their numbers]."""
    gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    return torch.cat([gradient.reshape(len(leaves[0]), -1) for gradient in gradients], dim=1)


def own_rows() -> slice:
    """Those of this process, of a batch that all processes have equal parts of."""
    share = BATCH // dist.get_world_size()
    return slice(dist.get_rank() * share, (dist.get_rank() + 1) * share)


ShareOf = Callable[[Any, slice, Any], Share]
"""(case, rows, how queries meet the candidates of other processes; None: as the case says) -> what these rows give."""


def assert_processes_agree(share_of: ShareOf, cases: Sequence[Any], world_size: int) -> list[list[Share]]:
    """Assert in real processes that together they find what one process finds on the whole batch.

    Args:
        share_of: a function at the top level of its module.

    Returns:
        What every process has found, case by case.
    """
    per_process = run_processes(_shares_of_own_rows, world_size, share_of, cases)
    of_cases = [list(found) for found in zip(*per_process, strict=True)]
    for case, found in zip(cases, of_cases, strict=True):
        assert_joined(found, share_of(case, slice(None), "all"))
    return of_cases


def _shares_of_own_rows(share_of: ShareOf, cases: Sequence[Any]) -> list[Share]:
    return [share_of(case, own_rows(), None) for case in cases]


def assert_joined(of_processes: Sequence[Share], whole: Share, *, rel: float = 1e-5) -> None:
    """Assert that processes together found what one finds on the whole batch."""
    for part, expected in enumerate(whole.shares):
        mean = torch.stack([found.shares[part] for found in of_processes]).mean()
        assert mean.item() == pytest.approx(expected.item(), rel=rel)
    assert all(found.counts == whole.counts for found in of_processes)
    # The gradients sum over processes and strategies average them, hence the division.
    gradient = torch.cat([found.gradient for found in of_processes]) / len(of_processes)
    assert (gradient - whole.gradient).norm() <= 1e-5 * whole.gradient.norm()
