"""One forward pass over any number of chunks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybatch.training.strategy.text_chunk import Features


class ChunkEncoder(nn.Module):
    """Encodes chunk by chunk within one call, so that an engine's wrapper sees one forward pass a backward pass."""

    def __init__(self, encoder: nn.Module, autocast_dtype: torch.dtype | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.autocast_dtype = autocast_dtype

    def forward(self, features: list[Features], seeds: list[int]) -> Tensor:
        embeddings = []
        for chunk, seed in zip(features, seeds, strict=True):
            device = next(iter(chunk.values())).device.type
            # Both passes of gradient caching, and a resumed run, draw the same dropout. torch.manual_seed would do, but
            # on a CPU it writes down a stack trace for every device type that is not there, at a millisecond a call.
            (torch.cuda if device == "cuda" else torch.default_generator).manual_seed(seed)
            with torch.autocast(device, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
                embeddings.append(self.encoder(chunk).float())
        return torch.cat(embeddings)
