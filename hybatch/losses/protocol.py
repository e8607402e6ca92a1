"""What training asks of a loss, and of the options that build one.

Shape suffixes: Q queries of this process, N hard-negative slots per query, H embedding width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from hybatch.errors import UserError
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
    def passes_blocks(self) -> bool:
        """Whether candidates pass from process to process, none ever holding all: what `hybatch plan` reckons with."""
        return False

    @property
    def holds_logits(self) -> bool | None:
        """Whether the matrix of all logits is held; None where its size decides: what `hybatch plan` reckons with."""
        return True
