"""InfoNCE over the passages of the whole global batch.

Shape suffixes: Q queries of this process, D candidates, H embedding width, N hard-negative slots per query,
L rows that this process gives to the gather, W processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hybatch.errors import UserError
from hybatch.losses.gather import exchange_with_gradient, gather, gather_with_gradient
from hybatch.losses.info_nce import Implementation, choose_computation
from hybatch.losses.ring import ring_terms
from hybatch.ops.contrastive import ContrastiveTerms
from hybatch.processes import rank, world_size

Gather = Literal["all", "ring"]


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
    gather: Gather = "all"
    """How the queries of a process meet the passages of the others. all: every process collects all passages and hard
    negatives; ring: blocks of them pass from process to process while the loss is computed, so that none ever holds
    them all. Same loss. The ring is for batches whose embeddings do not fit on a device: it sends every embedding round
    twice and computes four products where all takes three (symmetric: four either way). One process alone streams."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UserError(f"loss.temperature must be greater than 0, not {self.temperature}")
        if self.hard_negatives < 0:
            raise UserError(f"loss.hard_negatives must be 0 or more, not {self.hard_negatives}")
        for option, known in (("implementation", get_args(Implementation)), ("gather", get_args(Gather))):
            if getattr(self, option) not in known:
                raise UserError(f"loss.{option}: {getattr(self, option)!r} is none of {', '.join(known)}")
        if self.gather == "ring" and self.implementation == "dense":
            raise UserError(
                "loss.gather ring computes with one block of passages at a time, loss.implementation dense with all of "
                "them in one matrix: leave loss.implementation at auto, or set loss.gather to all"
            )


class ContrastiveLoss(nn.Module):
    """InfoNCE with cosine similarity and temperature over all passages of the global batch (van den Oord et al. 2018).

    Every process computes the rows of its own queries against the passages and hard negatives of all processes; with
    `symmetric`, the average with the loss of its own passages against the queries of all processes. That one needs no
    logits of its own: each process has the column log-sum-exps of all passages over its queries, and those that belong
    to the same passage are exchanged and joined.

    Collectives: gather all carries passages and hard negatives together, one way forward and one way back; ring sends
    them round the processes once forward and once back (see `ring_terms`). `symmetric` adds one exchange of a float per
    passage each way.

    Reduction: the result on process r is `world_size * (sum over its rows) / (rows of the global batch)`. Strategies
    that average gradients over processes then arrive at the exact gradient of the mean over the whole batch, and the
    average of the results over processes is that mean.
    """

    def __init__(
        self,
        *,
        temperature: float,
        symmetric: bool = False,
        implementation: Implementation = "auto",
        gather: Gather = "all",
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.symmetric = symmetric
        self.implementation: Implementation = "streaming" if gather == "ring" else implementation
        self.ring = gather == "ring"

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
        num_rows, width = queries_QH.shape
        own, own_groups = passages_QH, groups_Q
        if negatives_QNH is not None:
            if negative_groups_QN is None:
                raise ValueError("negatives_QNH needs negative_groups_QN")
            own = torch.cat([own, negatives_QNH.reshape(-1, width)])
            own_groups = torch.cat([own_groups, negative_groups_QN.reshape(-1)])
        if self.ring and world_size() > 1:
            total = self._through_the_ring(queries_QH, own, groups_Q, own_groups)
        else:
            total = self._gathered(queries_QH, own, groups_Q, own_groups)
        return total / num_rows

    def _gathered(self, queries_QH: Tensor, own_LH: Tensor, groups_Q: Tensor, own_groups_L: Tensor) -> Tensor:
        num_rows = len(queries_QH)
        candidates_WLH = gather_with_gradient(own_LH).view(world_size(), *own_LH.shape)
        groups_WL = gather(own_groups_L).view(world_size(), -1)
        # Passages come first, so that the positive of global row i is column i; hard negatives follow.
        parts = (slice(0, num_rows), slice(num_rows, None))
        candidates_DH = torch.cat([candidates_WLH[:, part].flatten(0, 1) for part in parts])
        labels = {
            "positive_index_Q": rank() * num_rows + torch.arange(num_rows, device=queries_QH.device),
            "query_groups_Q": groups_Q,
            "candidate_groups_D": torch.cat([groups_WL[:, part].flatten() for part in parts]),
            "temperature": self.temperature,
        }
        computation = choose_computation(self.implementation, num_rows, len(candidates_DH))
        if not self.symmetric:
            return computation.info_nce(queries_QH, candidates_DH, **labels)
        num_passages = world_size() * num_rows
        terms = computation.terms(queries_QH, candidates_DH, **labels, num_columns=num_passages)
        return _sum_of_losses(terms, terms.column_lse_D)

    def _through_the_ring(self, queries_QH: Tensor, own_LH: Tensor, groups_Q: Tensor, own_groups_L: Tensor) -> Tensor:
        num_rows = len(queries_QH)
        terms = ring_terms(
            queries_QH,
            own_LH,
            positive_index_Q=torch.arange(num_rows, device=queries_QH.device),
            query_groups_Q=groups_Q,
            candidate_groups_D=own_groups_L,
            temperature=self.temperature,
            columns=self.symmetric,
        )
        if terms.column_lse_D is None:
            return _sum_of_losses(terms, None)
        return _sum_of_losses(terms, terms.column_lse_D.view(world_size(), -1)[:, :num_rows])


def _sum_of_losses(terms: ContrastiveTerms, passage_lse: Tensor | None) -> Tensor:
    """Sum over this process's rows.

    Args:
        passage_lse: W * Q values, log-sum-exp of every passage of the batch over this process's queries, in rank order;
            None for the loss of finding the passage alone.
    """
    forward = (terms.row_lse_Q - terms.positive_logit_Q).sum()
    if passage_lse is None:
        return forward
    own_lse_Q = exchange_with_gradient(passage_lse.reshape(world_size(), -1)).logsumexp(0)
    return (forward + (own_lse_Q - terms.positive_logit_Q).sum()) / 2
