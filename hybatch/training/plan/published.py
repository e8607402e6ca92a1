"""Sizes of published multilingual backbones, so that planning with them needs no connection.

Source: the config.json of each model on the Hugging Face hub. What is not named has the architecture's default.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig


def _sizes(layers: int, width: int, heads: int, vocabulary: int, positions: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "pad_token_id": 1,
    }


_XLMR = {"type_vocab_size": 1, "layer_norm_eps": 1e-5}
_MDEBERTA = {
    "pad_token_id": 0,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "max_relative_positions": -1,
}
_PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "FacebookAI/xlm-roberta-base": ("xlm-roberta", _sizes(12, 768, 12, 250002, 514) | _XLMR),
    "FacebookAI/xlm-roberta-large": ("xlm-roberta", _sizes(24, 1024, 16, 250002, 514) | _XLMR),
    "facebook/xlm-roberta-xl": ("xlm-roberta-xl", _sizes(36, 2560, 32, 250880, 514) | _XLMR),
    "facebook/xlm-roberta-xxl": ("xlm-roberta-xl", _sizes(48, 4096, 32, 250880, 514) | _XLMR),
    "sentence-transformers/LaBSE": ("bert", _sizes(12, 768, 12, 501153, 512) | {"pad_token_id": 0}),
    # 512 positions, though of 250,037 pieces: BERT's layers over XLM-R's vocabulary.
    "intfloat/multilingual-e5-small": ("bert", _sizes(12, 384, 12, 250037, 512)),
    "microsoft/mdeberta-v3-base": ("deberta-v2", _sizes(12, 768, 12, 251000, 512) | _MDEBERTA),
}
_OLD_NAMES = {
    "xlm-roberta-base": "FacebookAI/xlm-roberta-base",
    "xlm-roberta-large": "FacebookAI/xlm-roberta-large",
    "setu4993/LaBSE": "sentence-transformers/LaBSE",
}


def published_names() -> list[str]:
    """Hub ids in the table."""
    return list(_PUBLISHED)


def published_config(hub_id: str) -> PretrainedConfig | None:
    """The configuration of a published backbone, or None where it is not in the table."""
    found = _PUBLISHED.get(_OLD_NAMES.get(hub_id, hub_id))
    return None if found is None else AutoConfig.for_model(found[0], **found[1])
