"""InfoNCE over the passages of the whole global batch.

Shape suffixes: Q queries of this process, D candidates, H embedding width, N hard-negative slots per query,
L candidates of one process, W processes, A queries of this process that have a translation, P positives of this
process, a passage per query and further ones.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hybatch.losses.contrastive.candidates import judged, num_positives, own_candidates, with_all_candidates
from hybatch.losses.false_negatives import FilterConfig, keep_out
from hybatch.losses.gather import exchange_with_gradient, gather
from hybatch.losses.info_nce import Implementation, choose_computation, without_positives
from hybatch.losses.inputs import ContrastiveInputs
from hybatch.losses.protocol import GuideVectors, LossTerms, Translations
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
from hybatch.processes import world_size

Gather = Literal["all", "ring"]


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
        inputs = own_candidates(
            queries_QH, passages_QH, negatives_QNH, groups_Q, negative_groups_QN, further, self.temperature
        )
        if not self._passes_blocks:
            inputs = with_all_candidates(inputs, further)
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
        own = own_candidates(
            queries_QH, passages_QH, negatives_QNH, groups_Q, negative_groups_QN, further, self.temperature
        )
        inputs, kept_out = self._filtered(own, guide, further)
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

    def _filtered(
        self, own: ContrastiveInputs, guide: GuideVectors | None, further: FurtherPositives | None
    ) -> tuple[ContrastiveInputs, Tensor | None]:
        """What `_sums` takes, with what is kept out; how much of all processes that is, None without a filter."""
        inputs = own if self._passes_blocks else with_all_candidates(own, further)
        if self.filter is None:
            return inputs, None
        whose = judged(own, None if self._passes_blocks else inputs, guide, further, self.filter)
        inputs, number = keep_out(inputs, whose, self.filter)
        return inputs, _sum_of_all(number)

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
        positives = num_positives(len(passages_QH), further)
        if self._passes_blocks:
            passing = ring_terms_of_widths(without_positives(inputs), widths, columns=self.symmetric)
            negatives = [(terms.row_lse_Q, _first_of_each_block(terms.column_lse_D, positives)) for terms in passing]
        else:
            negatives = [self._gathered_negatives(inputs.truncated(width), positives) for width in widths]
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

    def _gathered_negatives(self, inputs: ContrastiveInputs, positives: int) -> tuple[Tensor, Tensor | None]:
        computation = choose_computation(self.implementation, len(inputs.queries_QH), len(inputs.candidates_DH))
        num_columns = world_size() * positives if self.symmetric else 0
        negative_lse_Q, columns = computation.negatives(inputs, num_columns=num_columns)
        return negative_lse_Q, columns.view(world_size(), -1) if self.symmetric else None


def _first_of_each_block(column_lse_D: Tensor | None, number: int) -> Tensor | None:
    """[W, number], of the first candidates of each process's block; None where columns are not wanted."""
    return None if column_lse_D is None else column_lse_D.view(world_size(), -1)[:, :number]


def _sum_of_all(number: Tensor) -> Tensor:
    """Of what every process has."""
    return gather(number.view(1)).sum()


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
