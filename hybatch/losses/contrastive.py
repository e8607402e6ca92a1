"""InfoNCE over the passages of the whole global batch.

Shape suffixes: Q queries of this process, D candidates, H embedding width, N hard-negative slots per query,
L candidates of one process, W processes, A queries of this process that have a translation, P positives of this
process, a passage per query and further ones, G width of the embeddings that say what is kept out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from hybatch.errors import UserError
from hybatch.losses.false_negatives import FilterConfig, Judged, keep_out
from hybatch.losses.gather import exchange_with_gradient, gather, gather_with_gradient
from hybatch.losses.info_nce import Implementation, choose_computation, without_positives
from hybatch.losses.inputs import ContrastiveInputs
from hybatch.losses.protocol import GuideVectors, LossConfig, LossTerms, Translations
from hybatch.losses.reduction import share_of_batch_mean, share_of_mean
from hybatch.losses.ring import ring_terms_of_widths
from hybatch.losses.several_positives import (
    Form,
    FurtherPositives,
    positive_logits,
    sum_over_positives,
    sum_over_queries,
)
from hybatch.losses.terms.alignment import AlignmentConfig, alignment_sum
from hybatch.losses.terms.divergences import DIVERGENCES
from hybatch.losses.terms.teacher import TeacherConfig, teacher_sum
from hybatch.losses.truncation import truncated
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
    dimensions: list[int] | None = field(default=None, metadata=limits(ge=1, le=1_000_000))
    """Train vectors that can be cut short (Matryoshka): the loss is the sum of those of the leading so many dimensions
    of the embeddings, each scaled to unit length again. All of them first, then fewer and fewer; by default all alone.
    """
    dimension_weights: list[float] | None = field(default=None, metadata=limits(ge=0, le=1_000_000))
    """What the loss of each of the dimensions is multiplied with in the sum; by default 1. 0 measures it and trains
    nothing by it."""
    alignment: AlignmentConfig | None = None
    """A term beside the loss that brings queries and their translations together; none by default. Every example of a
    batch that has one is then given a translation of its query, which is encoded beside the others."""
    filter: FilterConfig | None = None
    """Keep candidates that seem to answer a query as well out of its softmax; none by default."""
    guide: str | None = None
    """The encoder that loss.filter by guide goes by, a folder or a hub id: its vectors of all texts to train on are
    computed once, before training, and kept in the cache."""
    teacher: TeacherConfig | None = None
    """A term beside the loss that brings the scores of a query's passage and hard negatives to those that the corpus
    has of a teacher; none by default. Needs hard_negatives."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gather == "ring" and self.implementation == "dense":
            raise UserError(
                "loss.gather ring computes with one block of passages at a time, loss.implementation dense with all of "
                "them in one matrix: leave loss.implementation at auto, or set loss.gather to all"
            )
        if self.teacher is not None and not self.hard_negatives:
            raise UserError(
                "loss.teacher compares a passage with its hard negatives, but loss.hard_negatives is 0: set it to 1 or "
                "more"
            )
        by_guide = self.filter is not None and self.filter.by == "guide"
        if by_guide and not self.guide:
            raise UserError("loss.filter goes by a guide, but loss.guide names none: give a model, or filter by self")
        if self.guide is not None and not by_guide:
            raise UserError("loss.guide names a model, but nothing goes by it: set loss.filter.by to guide")
        if self.positives == "one" and self.max_positives not in (None, 1):
            raise UserError(
                f"loss.positives one takes one positive of a query at a step, loss.max_positives is "
                f"{self.max_positives}: leave that out, or set loss.positives to mean or log-sum"
            )
        self._check_dimensions()

    def _check_dimensions(self) -> None:
        dimensions, weights = self.dimensions, self.dimension_weights
        if dimensions is None:
            if weights is not None:
                raise UserError("loss.dimension_weights is given without loss.dimensions: give both, or neither")
            return
        if not dimensions:
            raise UserError("loss.dimensions is an empty list: name the embeddings' width and fewer, or leave it out")
        if any(narrower >= wider for wider, narrower in pairwise(dimensions)):
            raise UserError(
                f"loss.dimensions is {dimensions}: each must be less than the one before it, and the embeddings' width "
                "stand first"
            )
        if weights is not None and len(weights) != len(dimensions):
            raise UserError(
                f"loss.dimension_weights are {len(weights)}, loss.dimensions are {len(dimensions)}: give one for each"
            )
        if weights is not None and not any(weights):
            raise UserError("loss.dimension_weights are all 0, which trains nothing: give one of them more")

    def build(self) -> ContrastiveLoss:
        return ContrastiveLoss(
            temperature=self.temperature,
            symmetric=self.symmetric,
            implementation=self.implementation,
            gather=self.gather,
            positives="mean" if self.positives == "one" else self.positives,
            alignment=self.alignment,
            filter=self.filter,
            teacher=self.teacher,
            dimensions=self._weight_of_dimensions(),
        )

    def _weight_of_dimensions(self) -> dict[int, float] | None:
        if self.dimensions is None:
            return None
        return dict(zip(self.dimensions, self.dimension_weights or [1.0] * len(self.dimensions), strict=True))

    @property
    def trained_widths(self) -> tuple[int, ...]:
        return tuple(self.dimensions or ())

    @property
    def most_positives(self) -> int | None:
        return 1 if self.positives == "one" else self.max_positives

    @property
    def aligns(self) -> bool:
        return self.alignment is not None

    @property
    def guide_model(self) -> str | None:
        return self.guide

    @property
    def has_terms(self) -> bool:
        return self.aligns or self.is_taught or self.filter is not None or self.dimensions is not None

    @property
    def is_taught(self) -> bool:
        return self.teacher is not None

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

    `terms` gives what training minimises. With a `filter` it leaves out of a query's softmax, and with `symmetric` out
    of the other direction's too, the candidates that `false_negatives.keep_out` takes for answers, by the score of the
    passage; that needs one small collective, where a guide decides another for its vectors, and in a ring one round
    more.

    With an `alignment`, `terms` adds its weight times the mean over the global batch of the divergence between
    a query's distribution over the candidates and its translation's (`alignment_sum`); a query that has no translation
    counts as 0, and of several positives the passage alone takes part. It needs no collective of its own where all
    candidates are gathered; a ring adds three rounds.

    With a `teacher`, `terms` adds its weight times the mean, over the queries of the global batch that have scores, of
    what their cosines differ by from these (`teacher.teacher_sum`); that needs one small collective.

    With `dimensions`, number of leading dimensions -> weight, all of them first, `terms` takes the weighted sum of the
    losses of the leading dimensions (`truncation`) in the place of the loss of all. Weights are not scaled to sum to 1
    (Kusupati et al. 2022, arXiv 2205.13147, equation 1). Whole embeddings are gathered, or passed round, once; what is
    kept out, the alignment and the teacher go by whole embeddings. `symmetric` then exchanges a float per passage and
    width.

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
        filter: FilterConfig | None = None,
        teacher: TeacherConfig | None = None,
        dimensions: Mapping[int, float] | None = None,
    ) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.teacher = teacher
        self.alignment = alignment
        self.filter = filter
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
        """Return the loss of this process's rows, without filter and terms; as `LossOfSeveralPositives` states it."""
        inputs = self._compared(queries_QH, passages_QH, negatives_QNH, groups_Q, negative_groups_QN, further)
        if not self._passes_blocks:
            inputs = _with_all_candidates(inputs, further)
        (total,) = self._sums(inputs, passages_QH, further, [queries_QH.shape[1]])
        return share_of_batch_mean(total, len(queries_QH))

    def terms(
        self,
        queries_QH: Tensor,
        passages_QH: Tensor,
        negatives_QNH: Tensor | None = None,
        *,
        groups_Q: Tensor,
        negative_groups_QN: Tensor | None = None,
        further: FurtherPositives | None = None,
        translations: Translations | None = None,
        guide: GuideVectors | None = None,
        scores_QM: Tensor | None = None,
    ) -> LossTerms:
        """Return the loss with filter and terms; arguments as `TrainingLoss` states them.

        Raises:
            ValueError: the loss was made with an alignment, a guided filter or a teacher, but what these need is not
                given, or the other way round; or its dimensions are not those of the embeddings.
        """
        self._check_given(translations=translations, guide=guide, scores_QM=scores_QM)
        if guide is not None and further is not None:
            raise ValueError("guide: its vectors are of passages and hard negatives, but there are further positives")
        inputs = own = self._compared(queries_QH, passages_QH, negatives_QNH, groups_Q, negative_groups_QN, further)
        if not self._passes_blocks:
            inputs = _with_all_candidates(own, further)
        kept_out = None
        if self.filter is not None:
            judged = _judged(own, None if self._passes_blocks else inputs, guide, further, self.filter)
            inputs, number = keep_out(inputs, judged, self.filter)
            kept_out = _sum_of_all(number)
        loss, of_widths = self._weighted(inputs, passages_QH, further)
        alignment = teacher = taught = None
        if self.alignment is not None and translations is not None:
            alignment = self._apart_from_translations(inputs, translations, self.alignment)
            loss = loss + self.alignment.weight * alignment
            alignment = alignment.detach()
        if self.teacher is not None and scores_QM is not None:
            if negatives_QNH is None or negative_groups_QN is None:
                raise ValueError("scores_QM needs negatives_QNH and negative_groups_QN")
            apart, number = teacher_sum(
                queries_QH,
                passages_QH,
                negatives_QNH,
                scores_QM=scores_QM,
                groups_Q=groups_Q,
                negative_groups_QN=negative_groups_QN,
                config=self.teacher,
                temperature=self.temperature,
            )
            taught = _sum_of_all(number)
            teacher = share_of_mean(apart, taught)
            loss = loss + self.teacher.weight * teacher
            teacher = teacher.detach()
        return LossTerms(loss, alignment, kept_out, teacher, taught, of_widths)

    def _apart_from_translations(
        self, inputs: ContrastiveInputs, translations: Translations, term: AlignmentConfig
    ) -> Tensor:
        """This process's share of the alignment term, before its weight; `inputs` as for `_sums`."""
        divergence = DIVERGENCES[term.kind]
        rows = (translations.embeddings_AH, translations.translated_A)
        total = alignment_sum(inputs, *rows, divergence, ring=self._passes_blocks)
        return share_of_batch_mean(total, len(inputs.queries_QH))

    def _weighted(
        self, inputs: ContrastiveInputs, passages_QH: Tensor, further: FurtherPositives | None
    ) -> tuple[Tensor, dict[int, Tensor] | None]:
        """The contrastive loss, and with `dimensions` that of each, detached; arguments as for `_sums`."""
        num_rows, full = passages_QH.shape
        widths = list(self.dimensions or [full])
        if widths[0] != full:
            raise ValueError(f"dimensions: {widths}, but the embeddings are {full} wide")
        shares = [share_of_batch_mean(total, num_rows) for total in self._sums(inputs, passages_QH, further, widths)]
        if self.dimensions is None:
            return shares[0], None
        of_widths = dict(zip(widths, shares, strict=True))
        weighted = torch.stack([self.dimensions[width] * share for width, share in of_widths.items()]).sum()
        return weighted, {width: share.detach() for width, share in of_widths.items()}

    def _check_given(self, **given: object) -> None:
        wanted = {
            "translations": self.alignment is not None,
            "guide": self.filter is not None and self.filter.by == "guide",
            "scores_QM": self.teacher is not None,
        }
        for name, value in given.items():
            if (value is not None) != wanted[name]:
                asks = "asks" if wanted[name] else "does not ask"
                raise ValueError(f"{name}: {'' if value is None else 'not '}None, but the loss {asks} for them")

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

    def _sums(
        self,
        inputs: ContrastiveInputs,
        passages_QH: Tensor,
        further: FurtherPositives | None,
        widths: Sequence[int],
    ) -> list[Tensor]:
        """For every width, the sum over this process's rows.

        Args:
            inputs: its queries, and the candidates of all processes; where blocks of them pass, its own.
        """
        if further is not None:
            return self._of_several_positives(inputs, passages_QH, further, widths)
        if not self._passes_blocks:
            return [self._gathered(inputs.truncated(width)) for width in widths]
        passing = ring_terms_of_widths(inputs, widths, columns=self.symmetric)
        return [_sum_of_losses(terms, _first_of_each_block(terms.column_lse_D, len(passages_QH))) for terms in passing]

    def _of_several_positives(
        self, inputs: ContrastiveInputs, passages_QH: Tensor, further: FurtherPositives, widths: Sequence[int]
    ) -> list[Tensor]:
        num_positives = _num_positives(len(passages_QH), further)
        if self._passes_blocks:
            passing = ring_terms_of_widths(without_positives(inputs), widths, columns=self.symmetric)
            negatives = [
                (terms.row_lse_Q, _first_of_each_block(terms.column_lse_D, num_positives)) for terms in passing
            ]
        else:
            negatives = [self._gathered_negatives(inputs.truncated(width), num_positives) for width in widths]
        sums = []
        for width, (negative_lse_Q, others_WP) in zip(widths, negatives, strict=True):
            queries, passages = (truncated(rows, width) for rows in (inputs.queries_QH, passages_QH))
            logits_P = positive_logits(queries, passages, further.truncated(width), inputs.temperature)
            total = sum_over_queries(self.positives, negative_lse_Q, logits_P, further)
            if others_WP is not None:
                back = sum_over_positives(exchange_with_gradient(others_WP), logits_P, further)
                total = (total + back) / 2
            sums.append(total)
        return sums

    def _gathered(self, inputs: ContrastiveInputs) -> Tensor:
        num_rows = len(inputs.queries_QH)
        computation = choose_computation(self.implementation, num_rows, len(inputs.candidates_DH))
        if not self.symmetric:
            return computation.info_nce(inputs)
        terms = computation.terms(inputs, num_columns=world_size() * num_rows)
        assert terms.column_lse_D is not None
        return _sum_of_losses(terms, terms.column_lse_D.view(world_size(), -1))

    def _gathered_negatives(self, inputs: ContrastiveInputs, num_positives: int) -> tuple[Tensor, Tensor | None]:
        computation = choose_computation(self.implementation, len(inputs.queries_QH), len(inputs.candidates_DH))
        num_columns = world_size() * num_positives if self.symmetric else 0
        negative_lse_Q, columns = computation.negatives(inputs, num_columns=num_columns)
        return negative_lse_Q, columns.view(world_size(), -1) if self.symmetric else None


def _first_of_each_block(column_lse_D: Tensor | None, number: int) -> Tensor | None:
    """[W, number], of the first candidates of each process's block; None where columns are not wanted."""
    return None if column_lse_D is None else column_lse_D.view(world_size(), -1)[:, :number]


def _sum_of_all(number: Tensor) -> Tensor:
    """Of what every process has."""
    return gather(number.view(1)).sum()


def _num_positives(num_rows: int, further: FurtherPositives | None) -> int:
    """Leading candidates of a process that are passages or further positives."""
    return num_rows + (0 if further is None else len(further.query_E))


def _with_all_candidates(own: ContrastiveInputs, further: FurtherPositives | None) -> ContrastiveInputs:
    """This process's queries and the candidates of all: every process's positives, then every process's negatives."""
    num_positives = _num_positives(len(own.queries_QH), further)
    return replace(
        own,
        candidates_DH=_positives_first(gather_with_gradient(own.candidates_DH), num_positives),
        positive_index_Q=rank() * num_positives + own.positive_index_Q,
        candidate_groups_D=_positives_first(gather(own.candidate_groups_D), num_positives),
    )


def _positives_first(gathered: Tensor, num_positives: int) -> Tensor:
    """Of each process's `num_positives` and then its negatives, gathered, all positives and then all negatives.

    So where each query has one, the positive of global row i is column i.
    """
    of_processes = gathered.unflatten(0, (world_size(), -1))
    parts = (slice(0, num_positives), slice(num_positives, None))
    return torch.cat([of_processes[:, part].flatten(0, 1) for part in parts])


def _judged(
    own: ContrastiveInputs,
    gathered: ContrastiveInputs | None,
    guide: GuideVectors | None,
    further: FurtherPositives | None,
    rule: FilterConfig,
) -> Judged:
    """Whose scores say what is kept out.

    Args:
        gathered: with the candidates of all processes; None in a ring.
    """
    num_rows, num_positives = len(own.queries_QH), _num_positives(len(own.queries_QH), further)
    num_negatives = len(own.candidates_DH) - num_positives
    if guide is None:
        queries_QG, own_DG = own.queries_QH.detach(), own.candidates_DH.detach()
        all_DG = None if gathered is None else gathered.candidates_DH.detach()
    else:
        queries_QG, own_DG = guide.queries_QG, guide.passages_QG
        if guide.negatives_QNG is not None:
            own_DG = torch.cat([own_DG, guide.negatives_QNG.flatten(0, 1)])
        all_DG = None if gathered is None else _positives_first(gather(own_DG), num_rows)
    spared = None
    if rule.spare_hard_negatives and num_negatives:
        first = num_positives if gathered is None else world_size() * num_positives + rank() * num_negatives
        spared = (first, num_negatives // num_rows)
    return Judged(queries_QG, own_DG, all_DG, spared)


def _sum_of_losses(terms: ContrastiveTerms, passage_lse_WQ: Tensor | None) -> Tensor:
    """Sum over this process's rows.

    Args:
        passage_lse_WQ: log-sum-exp of every passage of the batch over this process's queries, in rank order; None for
            the loss of finding the passage alone.
    """
    forward = (terms.row_lse_Q - terms.positive_logit_Q).sum()
    if passage_lse_WQ is None:
        return forward
    own_lse_Q = exchange_with_gradient(passage_lse_WQ).logsumexp(0)
    return (forward + (own_lse_Q - terms.positive_logit_Q).sum()) / 2
