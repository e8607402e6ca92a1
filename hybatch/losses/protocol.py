"""What training asks of a loss, and of the options that build one.

Shape suffixes: Q queries of this process, A of them that have a translation, N hard-negative slots per query, H
embedding width, G that of another model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from hybatch.errors import UserError
from hybatch.losses.several_positives import FurtherPositives
from hybatch.options import check_options, limits


class Loss(Protocol):
    """A function of the embeddings of this process's rows; where it looks at those of other processes, collective."""

    def __call__(
        self,
        queries_QH: Tensor,
        passages_QH: Tensor,
        negatives_QNH: Tensor | None = None,
        *,
        groups_Q: Tensor,
        negative_groups_QN: Tensor | None = None,
    ) -> Tensor:
        """Return this process's loss, a scalar; what it must be divided by says `reduction.share_of_batch_mean`.

        Args:
            queries_QH: [Q, H] rows of unit length; Q and N are the same on every process.
            passages_QH: [Q, H], row i is the positive of query i.
            negatives_QNH: [Q, N, H] hard negatives, or None.
            groups_Q: int64 [Q], passage group of each example, 0 or more.
            negative_groups_QN: int64 [Q, N], `UNKNOWN_GROUP` and `EMPTY_SLOT` allowed; given with `negatives_QNH`.
        """


class LossOfSeveralPositives(Protocol):
    """A loss for queries that have several positives; the options that build it say so by `most_positives`."""

    def __call__(
        self,
        queries_QH: Tensor,
        passages_QH: Tensor,
        negatives_QNH: Tensor | None = None,
        *,
        groups_Q: Tensor,
        negative_groups_QN: Tensor | None = None,
        further: FurtherPositives | None = None,
    ) -> Tensor:
        """As `Loss`.

        Args:
            further: the positives beside the passages, or None where no query of the global batch has any.
        """


@dataclass(frozen=True, kw_only=True)
class Translations:
    """Translations of the queries, for a loss whose options say `aligns`.

    Attributes:
        embeddings_AH: [A, H] rows of unit length; A differs from process to process and may be 0.
        translated_A: int64 [A], which query each translates, ascending.
    """

    embeddings_AH: Tensor
    translated_A: Tensor


@dataclass(frozen=True, kw_only=True)
class GuideVectors:
    """What another model makes of the texts, for a loss whose options name a `guide_model`: rows of unit length.

    Attributes:
        queries_QG, passages_QG: [Q, G].
        negatives_QNG: [Q, N, G]; of an empty slot anything. None without hard negatives.
    """

    queries_QG: Tensor
    passages_QG: Tensor
    negatives_QNG: Tensor | None

    def to(self, device: torch.device) -> GuideVectors:
        negatives = None if self.negatives_QNG is None else self.negatives_QNG.to(device)
        return GuideVectors(
            queries_QG=self.queries_QG.to(device), passages_QG=self.passages_QG.to(device), negatives_QNG=negatives
        )


class LossTerms(NamedTuple):
    """A loss, and what it is made of besides what its name says."""

    loss: Tensor
    """What training minimises: this process's, a scalar."""
    alignment: Tensor | None = None
    """The alignment term in it, before its weight; detached, None where there is none."""
    kept_out: Tensor | None = None
    """Pairs of a query and a candidate of the global batch that `loss.filter` kept out, int64; None without one."""
    teacher: Tensor | None = None
    """The teacher's term in the loss, before its weight; detached, None where there is none."""
    taught: Tensor | None = None
    """Queries of the global batch that the teacher's term counts, int64; None without one."""
    of_widths: Mapping[int, Tensor] | None = None
    """By the number of leading dimensions, what each has for its loss, before its weight; detached, None without."""

    def detached(self) -> LossTerms:
        """For after the backward pass."""
        return self._replace(loss=self.loss.detach())

    def means(self) -> dict[str, Tensor]:
        """What is averaged over the processes, by its name in metrics.jsonl."""
        terms = {"loss": self.loss, "alignment": self.alignment, "teacher": self.teacher}
        terms |= {f"loss_{width}": loss for width, loss in (self.of_widths or {}).items()}
        return {name: term for name, term in terms.items() if term is not None}

    def counts(self) -> dict[str, Tensor]:
        """What is of the global batch already, likewise."""
        numbers = {"kept_out": self.kept_out, "taught": self.taught}
        return {name: number for name, number in numbers.items() if number is not None}


@runtime_checkable
class TrainingLoss(Protocol):
    """A loss that training and validation do not compute alike: training adds terms, or leaves candidates out.

    Called as a `Loss` it is without either, so that runs with and without can be compared; the options that build it
    say `has_terms`.
    """

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
        """Return what training minimises and its terms, divided as `Loss` says.

        Args:
            translations, guide: what the options ask for.
            scores_QM: float32 [Q, 1 + N], likewise: a teacher's, of the passage and the hard negatives of each query,
                NaN where there is none.
            queries_QH, passages_QH, negatives_QNH, groups_Q, negative_groups_QN: as for `Loss`.
            further: as for `LossOfSeveralPositives`; None where the options say one positive a query.
        """

    def in_both_directions(self) -> TrainingLoss:
        """The same with the loss of both directions, see `both_directions`; terms stay as they are."""


@dataclass(kw_only=True)
class LossConfig(ABC):
    """The section `loss`, whatever its kind: the options of a loss derive from it and stand in `LOSSES`."""

    kind: str = ""
    """Which loss; the default of each class of options is its name in `LOSSES`."""
    hard_negatives: int = field(default=0, metadata=limits(ge=0, le=1000))
    """Hard negatives per query, drawn anew each step from those that the corpus lists; a query that has fewer uses
    all of its own."""

    def __post_init__(self) -> None:
        check_options(self, "loss")
        own = type(self).kind
        if self.kind != own:
            raise UserError(f"loss.kind is {self.kind!r}, but {type(self).__name__} has the options of {own}")

    @abstractmethod
    def build(self) -> Loss:
        """The loss that these options describe."""

    @property
    def compares(self) -> bool:
        """Whether a query learns from other candidates than its own passage alone: a batch of one example without hard
        negatives has none."""
        return False

    @property
    def most_positives(self) -> int | None:
        """Positives of a query that a batch carries at most, None for all that there are; if not 1, the loss is a
        `LossOfSeveralPositives`."""
        return 1

    @property
    def aligns(self) -> bool:
        """Whether the loss has an alignment term: a batch then carries translations of its queries."""
        return False

    @property
    def guide_model(self) -> str | None:
        """Path or hub id of the model whose vectors of its texts a batch carries; None for none."""
        return None

    @property
    def is_taught(self) -> bool:
        """Whether the loss has a teacher's term: a batch then carries the scores that the corpus has."""
        return False

    @property
    def trained_widths(self) -> tuple[int, ...]:
        """How many leading dimensions of an embedding are trained to be an embedding, all of them first; none: only
        all of them."""
        return ()

    def check_width(self, width: int) -> None:
        """Check `trained_widths` against the width of the embeddings, before any are made.

        Raises:
            UserError: the first of them is another.
        """
        if self.trained_widths and self.trained_widths[0] != width:
            raise UserError(
                f"loss.dimensions is {list(self.trained_widths)}, but the embeddings are {width} wide: {width} must "
                "stand first, then fewer"
            )

    @property
    def has_terms(self) -> bool:
        """Whether the loss is a `TrainingLoss`, and training asks for its terms."""
        return self.aligns

    @property
    def passes_blocks(self) -> bool:
        """Whether candidates pass from process to process, none ever holding all: what `hybatch plan` reckons with."""
        return False

    @property
    def holds_logits(self) -> bool | None:
        """Whether the matrix of all logits is held; None where its size decides: what `hybatch plan` reckons with."""
        return True
