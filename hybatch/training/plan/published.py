"""Sizes of published multilingual backbones, so that planning with them needs no connection.

Source: the config.json of each model on the Hugging Face hub. What is not named has the architecture's default.
"""

from __future__ import annotations

from typing import Any

import transformers
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from hybatch.errors import UserError


def _sizes(
    layers: int, width: int, heads: int, vocabulary: int, positions: int, *, inner: int | None = None
) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": inner or 4 * width,
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
_LONG_XLMR = {**_sizes(24, 1024, 16, 250002, 8194), **_XLMR}
_QWEN3 = {
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
}
_MMBERT = {
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "cls_token_id": 1,
    "sep_token_id": 1,
    "rope_parameters": {
        kind: {"rope_type": "default", "rope_theta": 160_000.0} for kind in ("full_attention", "sliding_attention")
    },
}
_MISTRAL_7B = {
    "num_key_value_heads": 8,
    "sliding_window": 4096,
    "pad_token_id": 2,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
}
_EMBEDDING_GEMMA = {
    "num_key_value_heads": 1,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 512,
    "use_bidirectional_attention": True,
    "pad_token_id": 0,
}


def _mmbert(width: int, heads: int) -> dict[str, Any]:
    return _sizes(22, width, heads, 256_000, 8192, inner=1152) | _MMBERT


def _qwen3(layers: int, width: int, heads: int, inner: int, vocabulary: int, positions: int) -> dict[str, Any]:
    return _sizes(layers, width, heads, vocabulary, positions, inner=inner) | {"pad_token_id": None} | _QWEN3


_PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "FacebookAI/xlm-roberta-base": ("xlm-roberta", _sizes(12, 768, 12, 250002, 514) | _XLMR),
    "FacebookAI/xlm-roberta-large": ("xlm-roberta", _sizes(24, 1024, 16, 250002, 514) | _XLMR),
    "facebook/xlm-roberta-xl": ("xlm-roberta-xl", _sizes(36, 2560, 32, 250880, 514) | _XLMR),
    "facebook/xlm-roberta-xxl": ("xlm-roberta-xl", _sizes(48, 4096, 32, 250880, 514) | _XLMR),
    "sentence-transformers/LaBSE": ("bert", _sizes(12, 768, 12, 501153, 512) | {"pad_token_id": 0}),
    "google-bert/bert-base-multilingual-cased": ("bert", _sizes(12, 768, 12, 119547, 512) | {"pad_token_id": 0}),
    # 512 positions, though of 250,037 pieces: BERT's layers over XLM-R's vocabulary.
    "intfloat/multilingual-e5-small": ("bert", _sizes(12, 384, 12, 250037, 512)),
    "intfloat/multilingual-e5-base": ("xlm-roberta", _sizes(12, 768, 12, 250002, 514) | _XLMR),
    "intfloat/multilingual-e5-large": ("xlm-roberta", _sizes(24, 1024, 16, 250002, 514) | _XLMR),
    "intfloat/multilingual-e5-large-instruct": ("xlm-roberta", _sizes(24, 1024, 16, 250002, 514) | _XLMR),
    "intfloat/e5-mistral-7b-instruct": ("mistral", _sizes(32, 4096, 32, 32000, 32768, inner=14336) | _MISTRAL_7B),
    "BAAI/bge-m3": ("xlm-roberta", _LONG_XLMR),
    "Snowflake/snowflake-arctic-embed-l-v2.0": ("xlm-roberta", _LONG_XLMR),
    "alibaba-nlp-community/gte-multilingual-base": ("gte", _sizes(12, 768, 12, 250048, 8192)),
    "jinaai/jina-embeddings-v3-hf": ("jina_embeddings_v3", _sizes(24, 1024, 16, 250002, 8194)),
    "jhu-clsp/mmBERT-small": ("modernbert", _mmbert(384, 6)),
    "jhu-clsp/mmBERT-base": ("modernbert", _mmbert(768, 12)),
    "Qwen/Qwen3-Embedding-0.6B": ("qwen3", _qwen3(28, 1024, 16, 3072, 151669, 32768)),
    "Qwen/Qwen3-Embedding-4B": ("qwen3", _qwen3(36, 2560, 32, 9728, 151665, 40960)),
    "Qwen/Qwen3-Embedding-8B": ("qwen3", _qwen3(36, 4096, 32, 12288, 151665, 40960)),
    "google/embeddinggemma-300m": ("gemma3_text", _sizes(24, 768, 3, 262144, 2048, inner=1152) | _EMBEDDING_GEMMA),
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
    """The configuration of a published backbone, or None where it is not in the table.

    Raises:
        UserError: the installed transformers is too old for its architecture.
    """
    found = _PUBLISHED.get(_OLD_NAMES.get(hub_id, hub_id))
    if found is None:
        return None
    architecture, sizes = found
    if architecture not in CONFIG_MAPPING:
        raise UserError(
            f"{hub_id}: transformers {transformers.__version__} does not know its architecture {architecture!r}; "
            "update transformers"
        )
    return AutoConfig.for_model(architecture, **sizes)
