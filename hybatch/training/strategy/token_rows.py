"""The rows of the token embedding that a step uses, looked up once and written once into its gradient.

A lookup by itself writes a gradient as large as the table, for every chunk: of 250,000 pieces x 384 that is 0.4 GB,
several times the traffic of all other weights. Here the chunks of one forward pass share one lookup of their distinct
tokens; of the forward passes of one step, all but the last keep the gradient of the rows that they used, and the last
one writes the table's gradient for all of them.

N tokens of a chunk, U distinct tokens, V rows of the table, H width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybatch.training.strategy.text_chunk import Features


class TokenRows:
    """Looks up tokens of chunks that go through the encoder without padding.

    Attributes:
        is_last: whether the next backward pass is the last of its step.
    """

    def __init__(self, table: nn.Embedding) -> None:
        self.is_last = True
        self._table = table
        self._pending: list[tuple[Tensor, Tensor]] = []

    def __call__(self, features: Sequence[Features]) -> list[Tensor]:
        """float32 [1, N, H] of each chunk: of the tokens that its mask keeps, row by row."""
        ids = [chunk["input_ids"][chunk["attention_mask"].bool().to(chunk["input_ids"].device)] for chunk in features]
        distinct_U, place_N = torch.unique(torch.cat(ids), return_inverse=True)
        rows_UH = _Lookup.apply(self._table.weight, distinct_U, self)
        pieces = F.embedding(place_N, rows_UH).split([len(one) for one in ids])
        return [piece[None] for piece in pieces]

    def gradient(self, ids_U: Tensor, gradient_UH: Tensor) -> Tensor | None:
        """float32 [V, H] of all lookups of the step, or None where another follows."""
        if self._table.padding_idx is not None:
            gradient_UH = gradient_UH * ids_U.ne(self._table.padding_idx)[:, None]
        self._pending.append((ids_U, gradient_UH))
        if not self.is_last:
            return None
        gradient_VH = torch.zeros_like(self._table.weight)
        # No id stands twice in a piece: the sum of a row does not depend on the order in which a GPU adds.
        for ids, rows in self._pending:
            gradient_VH.index_add_(0, ids, rows)
        self._pending.clear()
        return gradient_VH


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_VH: Tensor, ids_U: Tensor, rows: TokenRows) -> Tensor:
        ctx.save_for_backward(ids_U)
        ctx.rows = rows
        return weight_VH.index_select(0, ids_U)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (ids_U,) = ctx.saved_tensors
        return ctx.rows.gradient(ids_U, *gradients), None, None
