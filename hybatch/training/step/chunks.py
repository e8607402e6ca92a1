"""Where the texts of a process are cut into chunks, which are encoded at once.

n texts, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hybatch.training.strategy.text_chunk import Features

# Tokens that could be encoded while the operators of one chunk more are started. On a GPU an estimate, not measured:
# some hundred launches of 10 microseconds, at some hundred thousand tokens a second.
_LAUNCH_COST = {"cpu": 64.0, "cuda": 1000.0}
# Longer chunks are not considered where their size is left open: the search for the best cuts costs texts x size.
_LONGEST_SEARCH = 4096
# Chunks of the queries, and of the passages, where every process must have equally many and their size is left open.
_EQUAL_CHUNKS = 4


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How much is encoded at once.

    Attributes:
        chunk_size: texts at most; None where it does not matter.
        chunk_tokens: tokens at most, padding included; None where it does not matter. A longer text stands alone.
        chunk_cost: see `cost_of_a_chunk`; with it, texts that will be padded are cut where the fewest tokens are
            encoded, padding and cost of the chunks included. Of real passages in eleven languages half of what is
            encoded would be padding in one piece.
        is_padded: whether the texts of a chunk are padded to its longest.
        equal_chunks: cut into as many chunks on every process, where encoding one is a collective: without
            `chunk_tokens` their number depends on the number of texts alone, with it the processes agree on one
            (`equally_many_chunks`).
    """

    chunk_size: int | None = None
    chunk_tokens: int | None = None
    chunk_cost: float | None = None
    is_padded: bool = True
    equal_chunks: bool = False

    def cut(self, features: Features, slots: Sequence[int]) -> list[tuple[Features, Tensor]]:
        """Cut tokenised texts, sorted by length, each chunk no wider than its longest.

        Returns:
            (features, slots) of every chunk; the longest texts last.
        """
        slots_n = torch.as_tensor(slots, dtype=torch.int64)
        if not len(slots_n):
            return []
        mask = features["attention_mask"]
        lengths, order = torch.sort(mask.sum(dim=1), stable=True)
        padded_left = not bool(mask[:, 0].all())
        chunks = []
        sizes = self._sizes(lengths.numpy())
        for rows, its_lengths in zip(order.split(sizes), lengths.split(sizes), strict=True):
            longest = int(its_lengths[-1])
            kept = slice(-longest, None) if padded_left else slice(None, longest)
            chunks.append(({name: tensor[rows, kept] for name, tensor in features.items()}, slots_n[rows]))
        return chunks

    def _sizes(self, lengths_n: NDArray[np.int64]) -> list[int]:
        """Texts of each chunk; `lengths_n` ascend."""
        number = len(lengths_n)
        if self.chunk_tokens is None and (self.equal_chunks or self.chunk_cost is None):
            size = min(number, self.chunk_size or (-(-number // _EQUAL_CHUNKS) if self.equal_chunks else number))
            return [min(size, number - start) for start in range(0, number, size)]
        if self.is_padded and self.chunk_cost is not None:
            largest = min(number, self.chunk_size or _LONGEST_SEARCH)
            return _best_sizes(lengths_n, largest, self.chunk_tokens, self.chunk_cost)
        return self._full_sizes(lengths_n)

    def _full_sizes(self, lengths_n: NDArray[np.int64]) -> list[int]:
        """As few chunks as the limits allow; the last, which gradient caching does not encode again, is full."""
        sizes: list[int] = []
        end = len(lengths_n)
        while end:
            size = min(end, self.chunk_size or end)
            if self.chunk_tokens is not None:
                behind = lengths_n[end - size : end][::-1]
                tokens = np.arange(1, size + 1) * behind[0] if self.is_padded else np.cumsum(behind)
                size = max(1, int(np.searchsorted(tokens, self.chunk_tokens, side="right")))
            sizes.append(size)
            end -= size
        return sizes[::-1]


def _best_sizes(lengths_n: NDArray[np.int64], largest: int, chunk_tokens: int | None, chunk_cost: float) -> list[int]:
    """Sizes of the chunks that cost least; `lengths_n` ascend.

    The best way to cut the first texts, for every number of them, from the best ways to cut fewer.
    """
    cost = np.zeros(len(lengths_n) + 1)
    last_size = np.zeros(len(lengths_n) + 1, dtype=np.int64)
    sizes = np.arange(largest, 0, -1)
    for end, longest in enumerate(lengths_n.tolist(), start=1):
        most = min(largest, end) if chunk_tokens is None else min(largest, end, max(1, chunk_tokens // longest))
        allowed = sizes[largest - most :]
        options = cost[end - most : end] + allowed * longest
        best = int(options.argmin())
        cost[end], last_size[end] = options[best] + chunk_cost, allowed[best]
    chosen = []
    end = len(lengths_n)
    while end:
        chosen.append(int(last_size[end]))
        end -= chosen[-1]
    return chosen[::-1]


def cost_of_a_chunk(encoder: nn.Module) -> float:
    """What one chunk more costs in the backward pass, in tokens: every chunk writes a gradient of the whole embedding,
    where that learns.

    A chunk costs memory traffic in proportion to the embedding table; a token costs arithmetic in proportion to the
    other weights, and element-wise work in proportion to the width. With the constants below a mean of 16,000 subword
    embeddings of width 256 is cut at 3,000 tokens saved, where its step was fastest on a CPU; encoders of several
    layers are cut whenever padding is saved.
    """
    tables = [module for module in encoder.modules() if isinstance(module, nn.Embedding)]
    table = sum(module.weight.numel() for module in tables if module.weight.requires_grad)
    others = sum(parameter.numel() for parameter in encoder.parameters()) - sum(one.weight.numel() for one in tables)
    width = max((module.embedding_dim for module in tables), default=0)
    launch = _LAUNCH_COST.get(next(encoder.parameters()).device.type, _LAUNCH_COST["cuda"])
    return launch + 100 * table / max(1, others + 500 * width)
