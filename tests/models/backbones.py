"""Small backbones of the published architectures, with random weights and a small tokenizer, saved as folders."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaXLConfig,
    XLMRobertaXLModel,
)

from hybatch.models import FreshBackboneConfig
from hybatch.models.tokenization import train_tokenizer

TEXTS = [
    "Which river flows through the capital of Austria?",
    "Die Donau fließt durch Wien, die Hauptstadt von Österreich.",
    "中国的首都是哪里？",
    "ประเทศไทยมีประชากรเท่าไร",
    "Столица России — Москва.",
    "short",
    "a passage that is much longer than the others, and goes on and on about rivers, capitals, towns and hills",
]

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 1,
}
_POSITIONS = 64


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One tokenizer for all small backbones."""
    config = FreshBackboneConfig(vocabulary_size=400)
    return train_tokenizer(config, TEXTS * 3)


def backbone(architecture: str) -> PreTrainedModel:
    """A small backbone of the published architecture, weights large enough for texts to differ clearly."""
    sizes = {**_SIZES, "vocab_size": len(tokenizer()), "initializer_range": 0.2}
    shifted = {**sizes, "max_position_embeddings": _POSITIONS + 2, "type_vocab_size": 1}
    deberta = {"position_biased_input": False, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
    torch.manual_seed(0)
    match architecture:
        case "xlm-roberta":
            model = XLMRobertaModel(XLMRobertaConfig(**shifted))
        case "xlm-roberta-xl":
            model = XLMRobertaXLModel(XLMRobertaXLConfig(**shifted))
        case "mbert" | "labse":
            model = BertModel(BertConfig(**sizes, max_position_embeddings=_POSITIONS))
        case "mdeberta":
            model = DebertaV2Model(DebertaV2Config(**sizes, max_position_embeddings=_POSITIONS, **deberta))
        case "qwen3":
            model = Qwen3Model(Qwen3Config(**sizes, head_dim=8, num_key_value_heads=4))
        case _:
            raise ValueError(architecture)
    return model.eval()


def save_backbone(directory: Path, architecture: str) -> Path:
    """Save a small backbone as a plain folder of transformers; its name is the architecture's."""
    folder = directory / architecture
    backbone(architecture).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
