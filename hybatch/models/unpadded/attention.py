"""Attention within each text of one sequence, registered with transformers under the name `ATTENTION`.

A backbone set to it calls it in every layer. With a `token_sequence` among the keywords of its forward pass there is
one row of tokens, and each attends to those of its own text; without, it is transformers' scaled dot product attention.

On a GPU that has them, torch's own kernels of FlashAttention for texts of different lengths take halves; float32, and
what they do not know, is padded for the dot products alone.

n texts, h heads, N tokens of all texts, L tokens of each of some texts, T tokens of the longest, d width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from hybatch.models.unpadded.sequence import TokenSequence

ATTENTION = "hybatch_unpadded"
_HALVES = (torch.bfloat16, torch.float16)
_FLASH_CAPABILITY = (8, 0)
"""Of the oldest GPUs that torch compiles FlashAttention for."""
_FLASH_WIDTHS = range(8, 257, 8)
"""Of a head."""


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    token_sequence: TokenSequence | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: [1, h, N, d] -> [1, N, h, d]."""
    if token_sequence is None:
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            is_causal=is_causal,
            sliding_window=sliding_window,
            **others,
        )
    if others.get("softcap") is not None:
        raise ValueError("attention without padding knows no softcap")
    groups = getattr(module, "num_key_value_groups", 1)
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    query_hNd, key_hNd, value_hNd = query[0], repeat_kv(key, groups)[0], repeat_kv(value, groups)[0]
    if query.device.type == "cpu":
        attend = _by_length
    else:
        query_hNd, key_hNd, value_hNd = _in_one_dtype(query_hNd, key_hNd, value_hNd)
        attend = _flash if _has_flash(query_hNd) else _repadded
    return attend(
        query_hNd,
        key_hNd,
        value_hNd,
        token_sequence,
        causal=causal,
        window=sliding_window,
        dropout=dropout,
        scale=scaling,
    ), None


def _in_one_dtype(*heads_hNd: Tensor) -> tuple[Tensor, ...]:
    """As autocast would give them to scaled dot product attention: rotary positions are computed in float32."""
    device = heads_hNd[0].device.type
    if not torch.is_autocast_enabled(device):
        return heads_hNd
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in heads_hNd)


def _has_flash(query_hNd: Tensor) -> bool:
    """Whether the kernels of `_flash` are there for it, and nobody has switched them off."""
    return (
        query_hNd.is_cuda
        and query_hNd.dtype in _HALVES
        and query_hNd.shape[-1] in _FLASH_WIDTHS
        and torch.backends.cuda.is_flash_attention_available()
        and torch.backends.cuda.flash_sdp_enabled()
        and torch.cuda.get_device_capability(query_hNd.device) >= _FLASH_CAPABILITY
    )


def _flash(
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
    """No padding at all: one launch each way, whatever the lengths.

    `torch.nn.attention.varlen` leads to the same operator, and leaves out dropout.
    """
    sight = -1 if window is None else window - 1
    attended_Nhd = torch.ops.aten._flash_attention_forward(
        *(tensor.transpose(0, 1) for tensor in (query_hNd, key_hNd, value_hNd)),
        sequence.starts,
        sequence.starts,
        sequence.longest,
        sequence.longest,
        dropout,
        causal,
        False,
        scale=scale,
        window_size_left=sight,
        window_size_right=0 if causal else sight,
    )[0]
    return attended_Nhd[None]


def _by_length(
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


def _repadded(
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


def _mask(*arguments: Any, attention_mask: Tensor | None = None, **keywords: Any) -> Tensor | None:
    """transformers' mask interface: one sequence comes without a mask and needs none of N x N."""
    return None if attention_mask is None else sdpa_mask(*arguments, attention_mask=attention_mask, **keywords)


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, _mask)
