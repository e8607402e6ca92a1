"""The options of the contrastive loss, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from hybatch.errors import UserError
from hybatch.losses.contrastive.loss import ContrastiveLoss, Gather
from hybatch.losses.false_negatives import FilterConfig
from hybatch.losses.info_nce import Implementation
from hybatch.losses.protocol import LossConfig
from hybatch.losses.terms.alignment import AlignmentConfig
from hybatch.losses.terms.teacher import TeacherConfig
from hybatch.options import limits

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
    def compares(self) -> bool:
        return True

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
