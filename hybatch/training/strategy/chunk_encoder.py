"""One forward pass over any number of chunks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybatch.training.strategy.text_chunk import Features
from hybatch.training.strategy.token_rows import TokenRows


class ChunkEncoder(nn.Module):
    """Encodes chunk by chunk within one call, so that an engine's wrapper sees one forward pass a backward pass."""

    def __init__(
        self, encoder: nn.Module, autocast_dtype: torch.dtype | None, token_rows: TokenRows | None = None
    ) -> None:
        """
        Args:
            token_rows: looks up the tokens of all chunks at once; None where every chunk does that for itself.
        """
        super().__init__()
        self.encoder = encoder
        self.autocast_dtype = autocast_dtype
        self.token_rows = token_rows

    def forward(self, features: list[Features], seeds: list[int]) -> Tensor:
        embeddings = []
        looked_up: list[tuple[Tensor, ...]] = [()] * len(features)
        if self.token_rows is not None and torch.is_grad_enabled():
            looked_up = [(rows,) for rows in self.token_rows(features)]
        for chunk, seed, rows in zip(features, seeds, looked_up, strict=True):
            device = chunk["input_ids"].device.type
            # Both passes of gradient caching, and a resumed run, draw the same dropout. torch.manual_seed would do, but
            # on a CPU it writes down a stack trace for every device type that is not there, at a millisecond a call.
            (torch.cuda if device == "cuda" else torch.default_generator).manual_seed(seed)
            with torch.autocast(device, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
                embeddings.append(self.encoder(chunk, *rows).float())
        return torch.cat(embeddings)
