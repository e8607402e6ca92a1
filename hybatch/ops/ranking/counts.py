"""What is counted, and the ranks that follow from it.

Shapes: P positives (all queries together), G groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hybatch.ops.ranking.best import BestCandidates


@dataclass(frozen=True)
class RankCounts:
    """Per positive and group, the candidates above it and those tied with it; itself is in none of them.

    With `validate=False`, a positive whose counts mean nothing (see `RankCounter.finish`) has -1 everywhere.
    """

    greater: Tensor
    """[P, G] int32: candidates with a greater score."""
    tied_before: Tensor
    """[P, G] int32: candidates with an equal score and a smaller index."""
    tied_after: Tensor
    """[P, G] int32: candidates with an equal score and a greater index."""
    backend: str
    """The backend that counted: torch, cpu or cuda."""
    best: BestCandidates | None = None
    """The best candidates of every query, best first, where they were asked for."""

    def rank_in_group(self, group: int | Tensor) -> Tensor:
        """[P] int64: rank, from 1, among the candidates of `group` (one for all, or [P], one per positive).

        A positive of another group gets the rank it would have if it stood among them.
        """
        ranks_PG = 1 + self.greater.long() + self.tied_before
        ranks_P = ranks_PG[:, group] if isinstance(group, int) else ranks_PG.gather(1, group.long()[:, None]).squeeze(1)
        return torch.where(ranks_P > 0, ranks_P, -1)

    def rank_overall(self) -> Tensor:
        """[P] int64: rank, from 1, among the candidates of all groups."""
        ranks_P = 1 + self.greater_overall() + self.tied_before.sum(1)
        return torch.where(ranks_P > 0, ranks_P, -1)

    def greater_overall(self) -> Tensor:
        """[P] int64: candidates of all groups with a greater score."""
        return self.greater.sum(1)

    def tied_overall(self) -> Tensor:
        """[P] int64: other candidates of all groups with an equal score.

        The bounds of the rank under any order of ties follow from it: of m positives of a query that share one score,
        the j-th ranks from greater + j at best to greater + tied + 1 - m + j at worst.
        """
        return self.tied_before.sum(1) + self.tied_after.sum(1)
