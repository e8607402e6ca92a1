"""Attention within each text of one sequence, registered with transformers under the name `ATTENTION`.

A backbone that `attend_without_padding` set to it calls it in every layer. With a `token_sequence` among the keywords
of its forward pass there is one row of tokens, and each attends to those of its own text; without, it is transformers'
scaled dot product attention.

h heads, N tokens of all texts, d width of a head.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from hybatch.models.unpadded.dot_products import by_length, repadded
from hybatch.models.unpadded.flash import flash, has_flash
from hybatch.models.unpadded.sequence import TokenSequence

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = "hybatch_unpadded"


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
        attend = by_length
    else:
        query_hNd, key_hNd, value_hNd = _in_one_dtype(query_hNd, key_hNd, value_hNd)
        attend = flash if has_flash(query_hNd) else repadded
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


def _mask(*arguments: Any, attention_mask: Tensor | None = None, **keywords: Any) -> Tensor | None:
    """transformers' mask interface: one sequence comes without a mask and needs none of N x N."""
    if attention_mask is None:
        return None
    from transformers.masking_utils import sdpa_mask

    return sdpa_mask(*arguments, attention_mask=attention_mask, **keywords)


@cache
def register_attention() -> None:
    """Make the name `ATTENTION` known to transformers, in this process.

    Not when this module is imported: it takes transformers' code of models, which takes seconds to import and which a
    command that opens no model does without.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, _mask)


def attend_without_padding(backbone: PreTrainedModel) -> None:
    """From now on every layer of the backbone calls the attention of this module."""
    register_attention()
    backbone.set_attn_implementation(ATTENTION)
