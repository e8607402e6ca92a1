"""Losses over the whole global batch, whichever processes hold it."""

from hybatch.losses.contrastive import ContrastiveConfig, ContrastiveLoss
from hybatch.losses.directions import both_directions
from hybatch.losses.false_negatives import FilterConfig
from hybatch.losses.gather import exchange_with_gradient, gather, gather_with_gradient
from hybatch.losses.info_nce import choose_computation, dense_info_nce, streaming_info_nce
from hybatch.losses.inputs import ContrastiveInputs
from hybatch.losses.protocol import (
    GuideVectors,
    Loss,
    LossConfig,
    LossOfSeveralPositives,
    LossTerms,
    TrainingLoss,
    Translations,
)
from hybatch.losses.reduction import share_of_batch_mean
from hybatch.losses.registry import DEFAULT_LOSS, LOSSES
from hybatch.losses.ring import ring_terms
from hybatch.losses.several_positives import FurtherPositives
from hybatch.losses.terms.alignment import AlignmentConfig, alignment_sum
from hybatch.losses.terms.divergences import DIVERGENCES
from hybatch.losses.terms.teacher import LESSONS, TeacherConfig
from hybatch.ops.contrastive import EMPTY_SLOT, UNKNOWN_GROUP

__all__ = [
    "DEFAULT_LOSS",
    "DIVERGENCES",
    "EMPTY_SLOT",
    "LESSONS",
    "LOSSES",
    "UNKNOWN_GROUP",
    "AlignmentConfig",
    "ContrastiveConfig",
    "ContrastiveInputs",
    "ContrastiveLoss",
    "FilterConfig",
    "FurtherPositives",
    "GuideVectors",
    "Loss",
    "LossConfig",
    "LossOfSeveralPositives",
    "LossTerms",
    "TeacherConfig",
    "TrainingLoss",
    "Translations",
    "alignment_sum",
    "both_directions",
    "choose_computation",
    "dense_info_nce",
    "exchange_with_gradient",
    "gather",
    "gather_with_gradient",
    "ring_terms",
    "share_of_batch_mean",
    "streaming_info_nce",
]
