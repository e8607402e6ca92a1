"""What a strategy is given to encode at once.

Shape suffixes: n texts of a chunk, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """

    features: Features
    slots_n: Tensor
    seed: int

    def to(self, device: torch.device) -> TextChunk:
        features = {name: tensor.to(device, non_blocking=True) for name, tensor in self.features.items()}
        return replace(self, features=features, slots_n=self.slots_n.to(device, non_blocking=True))
