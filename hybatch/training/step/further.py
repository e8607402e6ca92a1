"""A process's share of the positives of a batch, where examples have several.

Shape suffixes: Q examples of this process, E slots for positives beside the passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hybatch.losses import FurtherPositives
from hybatch.sampling import BatchSampler, GlobalBatch
from hybatch.sampling.companions.positives import Positive, draw_positives, positive_counts


@dataclass(frozen=True)
class Further:
    """Which query each further positive answers, and what it weighs: `FurtherPositives` without the embeddings."""

    query_E: Tensor
    weights_Q: Tensor
    weights_E: Tensor
    most: int

    @property
    def num_slots(self) -> int:
        return len(self.query_E)

    def to(self, device: torch.device) -> Further:
        moved = {name: getattr(self, name).to(device) for name in ("query_E", "weights_Q", "weights_E")}
        return replace(self, **moved)

    def with_passages(self, passages_EH: Tensor) -> FurtherPositives:
        return FurtherPositives(
            passages_EH=passages_EH,
            query_E=self.query_E,
            weights_Q=self.weights_Q,
            weights_E=self.weights_E,
            most=self.most,
        )


@dataclass(frozen=True)
class Positives:
    """The positives of a process's examples.

    Attributes:
        passages: the first of each example.
        others: the texts in the slots for further ones, from the first slot on.
        further: what they are to the loss; None where no example of the global batch has several.
    """

    passages: list[str]
    others: list[str]
    further: Further | None


def choose_positives(
    sampler: BatchSampler, batch: GlobalBatch, rows: slice, most: int | None, *, fill: bool = False
) -> Positives | None:
    """Choose the positives of a process's rows of a batch; None where each example's is its passage.

    Args:
        rows: of this process; every process has as many.
        most: of an example at most; None for all.
        fill: put the first passage, which the loss does not look at, into slots that would stay empty.
    """
    drawn = draw_positives(sampler, batch, rows, most)
    if drawn is None:
        return None
    counts_B = positive_counts(sampler, batch, most)
    num_slots = int(counts_B.reshape(-1, len(drawn)).sum(1).max()) - len(drawn)
    passages, others = [listed[0][0] for listed in drawn], [text for listed in drawn for text, _ in listed[1:]]
    if not num_slots:
        return Positives(passages, others, None)
    further = _further(drawn, num_slots, int(counts_B.max()))
    return Positives(passages, others + passages[:1] * (num_slots - len(others)) if fill else others, further)


def _further(drawn: Sequence[Sequence[Positive]], num_slots: int, most: int) -> Further:
    answered = [(row, weight) for row, listed in enumerate(drawn) for _, weight in listed[1:]]
    empty = [(len(drawn), 0.0)] * (num_slots - len(answered))
    rows, weights = zip(*answered, *empty, strict=True)
    return Further(torch.tensor(rows), torch.tensor([listed[0][1] for listed in drawn]), torch.tensor(weights), most)
