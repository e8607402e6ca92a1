"""Attention within each text of one sequence, by scaled dot product attention.

n texts, h heads, N tokens of all texts, L tokens of each of some texts, T tokens of the longest, d width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hybatch.models.unpadded.sequence import TokenSequence


def by_length(
    query_hNd: Tensor,
    key_hNd: Tensor,
    value_hNd: Tensor,
    sequence: TokenSequence,
    *,
    causal: bool,
    window: int | None,
    dropout: float,
    scale: float | None,
) -> Tensor:
    """Texts of equal length together, without a mask: fastest on a CPU, where starting an operator costs little."""
    runs = sequence.runs
    sizes = [texts * length for texts, length in runs]
    # One split each: a slice for every run would write a gradient of all tokens for every run.
    pieces = zip(query_hNd.split(sizes, 1), key_hNd.split(sizes, 1), value_hNd.split(sizes, 1), runs, strict=True)
    attended = []
    for query, key, value, (texts, length) in pieces:
        q, k, v = (tensor.unflatten(1, (texts, length)).transpose(0, 1) for tensor in (query, key, value))
        band = _band(length, causal=causal, window=window, device=query.device)
        # The operator's own flag takes a faster way than a mask, where nothing but causality limits a token's sight.
        mask, flag = (None, causal) if window is None or window >= length else (band, False)
        one_nhLd = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=flag, scale=scale
        )
        attended.append(one_nhLd.transpose(1, 2).flatten(0, 1))
    return torch.cat(attended)[None]


def repadded(
    query_hNd: Tensor,
    key_hNd: Tensor,
    value_hNd: Tensor,
    sequence: TokenSequence,
    *,
    causal: bool,
    window: int | None,
    dropout: float,
    scale: float | None,
) -> Tensor:
    """Padded rows for the dot products alone: few launches, on a device where each costs more than some padding."""
    num_texts, longest = len(sequence.lengths), sequence.longest
    heads, _, width = query_hNd.shape

    def rows(tensor_hNd: Tensor) -> Tensor:
        padded = tensor_hNd.new_zeros(heads, num_texts * longest, width).index_copy(1, sequence.places_N, tensor_hNd)
        return padded.unflatten(1, (num_texts, longest)).transpose(0, 1)

    kept_nT = sequence.kept
    # A padded query sees itself and no NaN comes of it; it is dropped with its row below.
    mask = kept_nT[:, None, None] & _band(longest, causal=causal, window=window, device=kept_nT.device)
    mask = mask | torch.eye(longest, dtype=torch.bool, device=kept_nT.device)
    attended_nhTd = F.scaled_dot_product_attention(
        rows(query_hNd), rows(key_hNd), rows(value_hNd), attn_mask=mask, dropout_p=dropout, scale=scale
    )
    return attended_nhTd.transpose(1, 2).flatten(0, 1).index_select(0, sequence.places_N)[None]


def _band(length: int, *, causal: bool, window: int | None, device: torch.device) -> Tensor:
    """bool [L, L]: which keys a query sees within its text; a window holds the tokens nearer than `window`."""
    places = torch.arange(length, device=device)
    distance = places[:, None] - places[None, :]
    seen = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    return seen if window is None else seen & (distance.abs() < window)
