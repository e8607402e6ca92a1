"""What a teacher's scores of a query's passage and hard negatives say: a term beside the contrastive loss.

A query's loss is a function of the cosines of its own passage and hard negatives alone, so that it needs no embeddings
of other queries. How the cosines are held against the scores is a table; a new way is a function and a line there.

Shape suffixes: Q queries of this process, R those of them that are taught, N hard-negative slots per query, M a passage
and its N hard negatives, H embedding width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from hybatch.ops.contrastive import EMPTY_SLOT
from hybatch.ops.products import float32_products
from hybatch.options import check_options, limits

Lesson = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""(cosines [R, M], the teacher's scores divided by its temperature [R, M], 0 where there is none, whether there is one
[R, M], the temperature of the contrastive loss) -> [R]. The passage stands first; it and one more are there."""


def kullback_leibler(cosines_RM: Tensor, scores_RM: Tensor, there_RM: Tensor, temperature: float) -> Tensor:
    """KL(teacher, student) in nats: the softmax of the scores, and that of the logits, over passage and negatives."""
    log_student_RM, log_teacher_RM = (
        logits.masked_fill(~there_RM, float("-inf")).log_softmax(1) for logits in (cosines_RM / temperature, scores_RM)
    )
    # Finite where nothing is: -inf less -inf is NaN, and its product with 0, too.
    apart_RM = (log_teacher_RM - log_student_RM).masked_fill(~there_RM, 0.0)
    return (log_teacher_RM.exp() * apart_RM).sum(1)


def margin_mse(cosines_RM: Tensor, scores_RM: Tensor, there_RM: Tensor, temperature: float) -> Tensor:
    """Squared difference of the margins of cosines and of scores, between the passage and each negative; their mean
    (Hofstätter et al. 2020, arXiv 2010.02666)."""
    margins_RN, wanted_RN = (of[:, :1] - of[:, 1:] for of in (cosines_RM, scores_RM))
    apart_RN = (margins_RN - wanted_RN).masked_fill(~there_RM[:, 1:], 0.0)
    return apart_RN.square().sum(1) / there_RM[:, 1:].sum(1)


LESSONS: dict[str, Lesson] = {
    "kl": kullback_leibler,
    "margin-mse": margin_mse,
}
"""By what `loss.teacher.kind` calls them."""

TeacherKind = str
if not TYPE_CHECKING:  # what the parser of configurations offers and checks
    TeacherKind = Literal[tuple(LESSONS)]


@dataclass(kw_only=True)
class TeacherConfig:
    """A term beside the contrastive loss that brings scores to those that the corpus has of a teacher."""

    kind: TeacherKind = "kl"
    """kl: Kullback-Leibler divergence of the softmax of the logits from that of the teacher's scores; margin-mse:
    squared difference of the margins between passage and hard negatives, of cosines and of the teacher's scores."""
    weight: float = field(default=1.0, metadata=limits(ge=0, le=1_000_000))
    """What the term is multiplied with; 0 measures it and trains nothing by it."""
    temperature: float = field(default=1.0, metadata=limits(ge=1e-6, le=1_000_000))
    """The teacher's scores are divided by this; cosines of a bi-encoder want about loss.temperature with kl."""

    def __post_init__(self) -> None:
        check_options(self, "loss.teacher")


def teacher_sum(
    queries_QH: Tensor,
    passages_QH: Tensor,
    negatives_QNH: Tensor,
    *,
    scores_QM: Tensor,
    groups_Q: Tensor,
    negative_groups_QN: Tensor,
    config: TeacherConfig,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Sum over the queries that are taught of what they differ by from the teacher, and their number.

    A query is taught by the scores of its passage and of those hard negatives that are none of its own passage group;
    one that lacks that of the passage, or all others, is left out.

    Args:
        scores_QM: float32, the passage's first; NaN where there is none.

    Returns:
        Scalars: float32 (float64 for float64), differentiable, and int64.
    """
    dtype = torch.promote_types(queries_QH.dtype, torch.float32)
    is_negative_QN = (negative_groups_QN != EMPTY_SLOT) & (
        (negative_groups_QN < 0) | (negative_groups_QN != groups_Q[:, None])
    )
    there_QM = ~scores_QM.isnan()
    there_QM = torch.cat([there_QM[:, :1], there_QM[:, 1:] & is_negative_QN], dim=1)
    taught_R = (there_QM[:, 0] & there_QM[:, 1:].any(1)).nonzero().flatten()
    with float32_products(queries_QH.device):
        queries_RH = queries_QH[taught_R].to(dtype)
        compared_RMH = torch.cat([passages_QH[taught_R, None], negatives_QNH[taught_R]], dim=1).to(dtype)
        cosines_RM = torch.linalg.vecdot(queries_RH[:, None], compared_RMH)
        scores_RM = scores_QM[taught_R].to(dtype).nan_to_num(nan=0.0) / config.temperature
        lesson = LESSONS[config.kind]
        return lesson(cosines_RM, scores_RM, there_QM[taught_R], temperature).sum(), taught_R.new_tensor(len(taught_R))
