"""InfoNCE over the passages of the whole global batch.

Shape suffixes: Q queries of this process, D candidates, H embedding width, N hard-negative slots per query,
L rows that this process gives to the gather, W processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hybatch.errors import UserError
from hybatch.losses.gather import gather, gather_with_gradient, rank, world_size
from hybatch.losses.info_nce import IMPLEMENTATIONS, Implementation, InfoNCE, auto_info_nce


@dataclass(kw_only=True)
class LossConfig:
    """The contrastive loss."""

    temperature: float = 0.05
    """Cosine similarities are divided by this before the softmax; greater than 0."""
    symmetric: bool = False
    """Average the loss with that of finding the query among all queries of the batch, given the passage."""
    hard_negatives: int = 0
    """Hard negatives per query, drawn anew each step from those that the corpus lists; a query that has fewer uses
    all of its own."""
    implementation: Implementation = "auto"
    """How the softmax over all passages is computed. dense: through the matrix of all logits; streaming: tile by tile,
    in memory that grows with the batch and not with its square; auto: streaming, but for batches so small that the
    matrix is faster."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UserError(f"loss.temperature must be greater than 0, not {self.temperature}")
        if self.hard_negatives < 0:
            raise UserError(f"loss.hard_negatives must be 0 or more, not {self.hard_negatives}")
        if self.implementation not in IMPLEMENTATIONS:
            known = ", ".join(IMPLEMENTATIONS)
            raise UserError(f"loss.implementation: {self.implementation!r} is none of {known}")


class ContrastiveLoss(nn.Module):
    """InfoNCE with cosine similarity and temperature over all passages of the global batch (van den Oord et al. 2018).

    Every process computes the rows of its own queries against the passages and hard negatives of all processes;
    with `symmetric`, also the rows of its own passages against the queries of all processes, and the mean of the two.
    One collective forward and one backward carry queries, passages and hard negatives together.

    Reduction: the result on process r is `world_size * (sum over its rows) / (rows of the global batch)`. Strategies
    that average gradients over processes then arrive at the exact gradient of the mean over the whole batch, and the
    average of the results over processes is that mean.
    """

    def __init__(self, *, temperature: float, symmetric: bool = False, info_nce: InfoNCE = auto_info_nce) -> None:
        super().__init__()
        self.temperature = temperature
        self.symmetric = symmetric
        self.info_nce = info_nce

    def forward(
        self,
        queries_QH: Tensor,
        passages_QH: Tensor,
        negatives_QNH: Tensor | None = None,
        *,
        groups_Q: Tensor,
        negative_groups_QN: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of this process's rows.

        Args:
            queries_QH: [Q, H] rows of unit length; Q and N are the same on every process.
            passages_QH: [Q, H], row i is the positive of query i.
            negatives_QNH: [Q, N, H] hard negatives, or None.
            groups_Q: int64 [Q], passage group of each example, 0 or more.
            negative_groups_QN: int64 [Q, N], `UNKNOWN_GROUP` and `EMPTY_SLOT` allowed; required with `negatives_QNH`.
        """
        num_rows = queries_QH.shape[0]
        candidates, candidate_groups, all_queries, all_groups = self._gather(
            queries_QH, passages_QH, negatives_QNH, groups_Q, negative_groups_QN
        )
        own_rows = rank() * num_rows + torch.arange(num_rows, device=queries_QH.device)
        total = self.info_nce(
            queries_QH,
            candidates,
            positive_index_Q=own_rows,
            query_groups_Q=groups_Q,
            candidate_groups_D=candidate_groups,
            temperature=self.temperature,
        )
        if all_queries is not None:
            backward_total = self.info_nce(
                passages_QH,
                all_queries,
                positive_index_Q=own_rows,
                query_groups_Q=groups_Q,
                candidate_groups_D=all_groups,
                temperature=self.temperature,
            )
            total = (total + backward_total) / 2
        return total / num_rows

    def _gather(
        self,
        queries_QH: Tensor,
        passages_QH: Tensor,
        negatives_QNH: Tensor | None,
        groups_Q: Tensor,
        negative_groups_QN: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Return candidates, their groups, the queries of all processes (symmetric only) and their groups."""
        num_rows, width = queries_QH.shape
        num_slots = 0 if negatives_QNH is None else negatives_QNH.shape[1]
        parts = [passages_QH]
        group_parts = [groups_Q]
        if negatives_QNH is not None:
            if negative_groups_QN is None:
                raise ValueError("negatives_QNH needs negative_groups_QN")
            parts.append(negatives_QNH.reshape(-1, width))
            group_parts.append(negative_groups_QN.reshape(-1))
        if self.symmetric:
            parts.append(queries_QH)
        gathered_WLH = gather_with_gradient(torch.cat(parts)).view(world_size(), -1, width)
        gathered_groups = gather(torch.cat(group_parts)).view(world_size(), -1)

        # Passages come first, so that the positive of global row i is column i; hard negatives follow.
        end_negatives = num_rows * (1 + num_slots)
        passages_and_negatives = (gathered_WLH[:, :num_rows], gathered_WLH[:, num_rows:end_negatives])
        candidates = torch.cat([part.reshape(-1, width) for part in passages_and_negatives])
        all_groups = gathered_groups[:, :num_rows].reshape(-1)
        candidate_groups = torch.cat([all_groups, gathered_groups[:, num_rows:].reshape(-1)])
        all_queries = gathered_WLH[:, end_negatives:].reshape(-1, width) if self.symmetric else None
        return candidates, candidate_groups, all_queries, all_groups
