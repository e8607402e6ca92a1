"""What a strategy is given to encode at once.

Shape suffixes: n texts of a chunk, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

Features = dict[str, Tensor]


@dataclass(frozen=True)
class TextChunk:
    """Texts that go through the encoder together.

    Attributes:
        features: what the encoder takes; every tensor is [n, T].
        slots_n: int64 [n], the slot of each text.
        seed: of the random numbers (dropout) that its encoding draws.
        is_padded: whether the encoder will work on the padding too.
    """

    features: Features
    slots_n: Tensor
    seed: int
    is_padded: bool = True

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Texts and tokens of each that the encoder works on, neighbours of equal length together."""
        mask_nT = self.features["attention_mask"]
        if self.is_padded:
            return [tuple(mask_nT.shape)]  # type: ignore[list-item]
        return [(len(list(run)), length) for length, run in groupby(mask_nT.sum(dim=1).tolist())]

    def to(self, device: torch.device) -> TextChunk:
        """A copy there; a mask that only says where texts end stays on the CPU, where that is asked."""
        features = {
            name: tensor if name == "attention_mask" and not self.is_padded else tensor.to(device, non_blocking=True)
            for name, tensor in self.features.items()
        }
        return replace(self, features=features, slots_n=self.slots_n.to(device, non_blocking=True))

    def halves(self, seed: int) -> list[TextChunk]:
        """The shorter and the longer half of its texts, of which there are at least two; `seed` of the second."""
        middle = (len(self.slots_n) + 1) // 2
        parts = []
        for rows, its_seed in ((slice(None, middle), self.seed), (slice(middle, None), seed)):
            features = {name: tensor[rows] for name, tensor in self.features.items()}
            parts.append(replace(self, features=features, slots_n=self.slots_n[rows], seed=its_seed))
        return parts
