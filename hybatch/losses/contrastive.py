"""InfoNCE over the passages of the whole global batch.

Shape suffixes: Q queries of this process, D candidates, H embedding width, N hard-negative slots per query,
L candidates of one process, W processes, A queries of this process that have a translation, P positives of this
process: a passage per query, and further ones.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from hybatch.errors import UserError
from hybatch.losses.alignment import AlignmentConfig, alignment_sum
from hybatch.losses.divergences import DIVERGENCES
from hybatch.losses.gather import exchange_with_gradient, gather, gather_with_gradient
from hybatch.losses.info_nce import Implementation, choose_computation, without_positives
from hybatch.losses.inputs import ContrastiveInputs
from hybatch.losses.protocol import LossConfig, LossTerms
from hybatch.losses.reduction import share_of_batch_mean
from hybatch.losses.ring import ring_terms
from hybatch.losses.several_positives import (
    Form,
    FurtherPositives,
    positive_logits,
    sum_over_positives,
    sum_over_queries,
)
from hybatch.ops.contrastive import ContrastiveTerms
from hybatch.options import limits
from hybatch.processes import rank, world_size

Gather = Literal["all", "ring"]
Positives = Literal["mean", "log-sum", "one"]


@dataclass(kw_only=True)
class ContrastiveConfig(LossConfig):
    """The contrastive loss."""

    kind: str = "contrastive"
    """Which loss; the options below it are those of the contrastive loss."""
    temperature: float = field(default=0.05, metadata=limits(ge=1e-6, le=1_000_000))
    """Cosine similarities are divided by this before the softmax; greater than 0."""
    symmetric: bool = False
    """Average the loss with that of finding the query among all queries of the batch, given the passage. Batches of
    translations (bitext) do so in any case."""
    implementation: Implementation = "auto"
    """How the softmax over all passages is computed. dense: through the matrix of all logits; streaming: tile by tile,
    in memory that grows with the batch and not with its square; auto: streaming, but for batches so small that the
    matrix is faster."""
    gather: Gather = "all"
    """How the queries of a process meet the passages of the others. all: every process collects all passages and hard
    negatives; ring: blocks of them pass from process to process while the loss is computed, so that none ever holds
    them all. Same loss. The ring is for batches whose embeddings do not fit on a device: it sends every embedding round
    twice and computes four products where all takes three (symmetric: four either way). One process alone streams."""
    positives: Positives = "mean"
    """What the loss makes of several positives of a query. mean: of the losses of each, weighted by their scores,
    none of the others being a negative; log-sum: the share of the softmax that all have together; one: of each query
    one is drawn at each step. No matter where queries have one positive."""
    max_positives: int | None = field(default=None, metadata=limits(ge=1, le=1000))
    """Positives of a query that a step encodes at most, drawn anew at each step where the corpus lists more; by default
    all."""
    alignment: AlignmentConfig | None = None
    """A term beside the loss that brings queries and their translations together; none by default. Every example of a
    batch that has one is then given a translation of its query, which is encoded beside the others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gather == "ring" and self.implementation == "dense":
            raise UserError(
                "loss.gather ring computes with one block of passages at a time, loss.implementation dense with all of "
                "them in one matrix: leave loss.implementation at auto, or set loss.gather to all"
            )

        if self.positives == "one" and self.max_positives not in (None, 1):
            raise UserError(
                f"loss.positives one takes one positive of a query at a step, loss.max_positives is "
                f"{self.max_positives}: leave that out, or set loss.positives to mean or log-sum"
            )

    def build(self) -> ContrastiveLoss:
        return ContrastiveLoss(
            temperature=self.temperature,
            symmetric=self.symmetric,
            implementation=self.implementation,
            gather=self.gather,
            positives="mean" if self.positives == "one" else self.positives,
            alignment=self.alignment,
        )

    @property
    def most_positives(self) -> int | None:
        return 1 if self.positives == "one" else self.max_positives

    @property
    def aligns(self) -> bool:
        return self.alignment is not None

    @property
    def passes_blocks(self) -> bool:
        return self.gather == "ring"

    @property
    def holds_logits(self) -> bool | None:
        return {"dense": True, "streaming": False, "auto": None}[self.implementation]


class ContrastiveLoss(nn.Module):
    """InfoNCE with cosine similarity and temperature over all passages of the global batch (van den Oord et al. 2018).

    Every process computes the rows of its own queries against the passages and hard negatives of all processes; with
    `symmetric`, the average with the loss of its own passages against the queries of all processes. That one needs no
    logits of its own: each process has the column log-sum-exps of all passages over its queries, and those that belong
    to the same passage are exchanged and joined.

    Collectives: gather all carries passages and hard negatives together, one way forward and one way back; ring sends
    them round the processes once forward and once back (see `ring_terms`). `symmetric` adds one exchange of a float per
    passage each way.

    Of queries with several positives (`FurtherPositives`) every process gives as many slots for them; they go with the
    passages, and the collectives are the same. `several_positives` says what the loss then is.

    With an `alignment`, `with_alignment` adds its weight times the mean over the global batch of the divergence between
    a query's distribution over the candidates and its translation's (`alignment_sum`); a query that has no translation
    counts as 0, and of several positives the passage alone takes part. It needs no collective of its own where all
    candidates are gathered; a ring adds three rounds.

    Reduction: `share_of_batch_mean`.
    """

    def __init__(
        self,
        *,
        temperature: float,
        symmetric: bool = False,
        implementation: Implementation = "auto",
        gather: Gather = "all",
        positives: Form = "mean",
        alignment: AlignmentConfig | None = None,
    ) -> None:
        super().__init__()
        self.alignment = alignment
        self.temperature = temperature
        self.symmetric = symmetric
        self.positives: Form = positives
        self.implementation: Implementation = "streaming" if gather == "ring" else implementation
        self.ring = gather == "ring"

    def in_both_directions(self) -> ContrastiveLoss:
        """This loss with `symmetric`: itself where it is."""
        if self.symmetric:
            return self
        twin = copy.copy(self)
        twin.symmetric = True
        return twin

    def forward(
        self,
        queries_QH: Tensor,
        passages_QH: Tensor,
        negatives_QNH: Tensor | None = None,
        *,
        groups_Q: Tensor,
        negative_groups_QN: Tensor | None = None,
        further: FurtherPositives | None = None,
    ) -> Tensor:
        """Return the loss of this process's rows; arguments as `LossOfSeveralPositives` states them."""
        own = self._compared(queries_QH, passages_QH, negatives_QNH, groups_Q, negative_groups_QN, further)
        total = self._sum(own, own if self._passes_blocks else _with_all_candidates(own, further), further)
        return share_of_batch_mean(total, len(queries_QH))

    def with_alignment(
        self,
        queries_QH: Tensor,
        passages_QH: Tensor,
        negatives_QNH: Tensor | None = None,
        *,
        translations_AH: Tensor,
        translated_A: Tensor,
        groups_Q: Tensor,
        negative_groups_QN: Tensor | None = None,
        further: FurtherPositives | None = None,
    ) -> LossTerms:
        """Return the loss with its alignment term; arguments as `AligningLoss` states them.

        Raises:
            ValueError: the loss was made without an alignment.
        """
        if self.alignment is None:
            raise ValueError("with_alignment needs a loss that was made with an alignment")
        own = self._compared(queries_QH, passages_QH, negatives_QNH, groups_Q, negative_groups_QN, further)
        inputs = own if self._passes_blocks else _with_all_candidates(own, further)
        total = self._sum(own, inputs, further)
        divergence = DIVERGENCES[self.alignment.kind]
        apart = alignment_sum(inputs, translations_AH, translated_A, divergence, ring=self._passes_blocks)
        loss, alignment = (share_of_batch_mean(part, len(queries_QH)) for part in (total, apart))
        return LossTerms(loss + self.alignment.weight * alignment, alignment.detach())

    @property
    def _passes_blocks(self) -> bool:
        return self.ring and world_size() > 1

    def _compared(
        self,
        queries_QH: Tensor,
        passages_QH: Tensor,
        negatives_QNH: Tensor | None,
        groups_Q: Tensor,
        negative_groups_QN: Tensor | None,
        further: FurtherPositives | None,
    ) -> ContrastiveInputs:
        """This process's queries and candidates: passages, further positives, hard negatives."""
        num_rows, width = queries_QH.shape
        own, own_groups = passages_QH, groups_Q
        if further is not None:
            own = torch.cat([own, further.passages_EH])
            own_groups = torch.cat([own_groups, further.groups_E(groups_Q)])
        if negatives_QNH is not None:
            if negative_groups_QN is None:
                raise ValueError("negatives_QNH needs negative_groups_QN")
            own = torch.cat([own, negatives_QNH.reshape(-1, width)])
            own_groups = torch.cat([own_groups, negative_groups_QN.reshape(-1)])
        return ContrastiveInputs(
            queries_QH=queries_QH,
            candidates_DH=own,
            positive_index_Q=torch.arange(num_rows, device=queries_QH.device),
            query_groups_Q=groups_Q,
            candidate_groups_D=own_groups,
            temperature=self.temperature,
        )

    def _sum(self, own: ContrastiveInputs, inputs: ContrastiveInputs, further: FurtherPositives | None) -> Tensor:
        """Sum over this process's rows.

        Args:
            own: this process's queries and candidates.
            inputs: its queries, and the candidates of all processes; `own` where blocks of them pass.
        """
        if further is not None:
            return self._of_several_positives(own, inputs, further)
        return self._through_the_ring(own) if self._passes_blocks else self._gathered(inputs)

    def _of_several_positives(
        self, own: ContrastiveInputs, inputs: ContrastiveInputs, further: FurtherPositives
    ) -> Tensor:
        num_rows, num_positives = len(own.queries_QH), _num_positives(own, further)
        if self._passes_blocks:
            terms = ring_terms(without_positives(own), columns=self.symmetric)
            negative_lse_Q, columns = terms.row_lse_Q, terms.column_lse_D
            others_WP = None if columns is None else columns.view(world_size(), -1)[:, :num_positives]
        else:
            computation = choose_computation(self.implementation, num_rows, len(inputs.candidates_DH))
            num_columns = world_size() * num_positives if self.symmetric else 0
            negative_lse_Q, columns = computation.negatives(inputs, num_columns=num_columns)
            others_WP = columns.view(world_size(), -1) if self.symmetric else None
        passages_QH = own.candidates_DH[:num_rows]
        logits_P = positive_logits(own.queries_QH, passages_QH, further, own.temperature)
        forward = sum_over_queries(self.positives, negative_lse_Q, logits_P, further)
        if others_WP is None:
            return forward
        return (forward + sum_over_positives(exchange_with_gradient(others_WP), logits_P, further)) / 2

    def _gathered(self, inputs: ContrastiveInputs) -> Tensor:
        num_rows = len(inputs.queries_QH)
        computation = choose_computation(self.implementation, num_rows, len(inputs.candidates_DH))
        if not self.symmetric:
            return computation.info_nce(inputs)
        terms = computation.terms(inputs, num_columns=world_size() * num_rows)
        return _sum_of_losses(terms, terms.column_lse_D)

    def _through_the_ring(self, own: ContrastiveInputs) -> Tensor:
        terms = ring_terms(own, columns=self.symmetric)
        if terms.column_lse_D is None:
            return _sum_of_losses(terms, None)
        return _sum_of_losses(terms, terms.column_lse_D.view(world_size(), -1)[:, : len(own.queries_QH)])


def _num_positives(own: ContrastiveInputs, further: FurtherPositives | None) -> int:
    """Leading candidates of this process that are passages or further positives."""
    return len(own.queries_QH) + (0 if further is None else len(further.query_E))


def _with_all_candidates(own: ContrastiveInputs, further: FurtherPositives | None) -> ContrastiveInputs:
    """This process's queries and the candidates of all: every process's positives, then every process's negatives."""
    num_positives = _num_positives(own, further)
    candidates_WLH = gather_with_gradient(own.candidates_DH).view(world_size(), *own.candidates_DH.shape)
    groups_WL = gather(own.candidate_groups_D).view(world_size(), -1)
    # Positives come first: where each query has one, that of global row i is column i.
    parts = (slice(0, num_positives), slice(num_positives, None))
    return replace(
        own,
        candidates_DH=torch.cat([candidates_WLH[:, part].flatten(0, 1) for part in parts]),
        positive_index_Q=rank() * num_positives + own.positive_index_Q,
        candidate_groups_D=torch.cat([groups_WL[:, part].flatten() for part in parts]),
    )


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
