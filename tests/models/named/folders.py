"""Tiny folders laid out as the publishers of today's encoders lay theirs out: shrunk architectures, random weights."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import processors
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerFast

from hybatch.models.named import named_model
from hybatch.training.plan.published import published_config
from tests.models.backbones import tokenizer

RETRIEVAL = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
WIDTH = 32
_SHRUNK: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "dtype": None,
}
# Keys and values shared as the publisher shares them, heads wider together than the hidden states, windows that hide.
_SHRUNK_PARTS: dict[str, dict[str, Any]] = {
    "qwen3": {"num_key_value_heads": 2, "head_dim": 16, "layer_types": ["full_attention"] * 2},
    "mistral": {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": 40},
    "gemma3_text": {
        "num_key_value_heads": 1,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "modernbert": {"local_attention": 8, "layer_types": ["full_attention", "sliding_attention"]},
}


@dataclass(frozen=True, kw_only=True)
class Publication:
    """How a publisher laid a folder out.

    Attributes:
        template: what the tokenizer puts around a text, `$A`.
        padding_side: of the tokenizer.
        pooling: the mode's name in 1_Pooling/config.json; None for a folder of transformers alone.
        dense: widths of the dense layers behind the pooling, without bias and activation.
        prompts: of config_sentence_transformers.json; None where there is no such file.
        query: what the card puts before a query.
        passage: likewise before a passage.
    """

    template: str = "<s> $A </s>"
    padding_side: str = "right"
    pooling: str | None
    dense: tuple[int, ...] = ()
    prompts: dict[str, str] | None = None
    query: str = ""
    passage: str = ""
    tokenizer_settings: dict[str, Any] = field(default_factory=dict)


_QWEN3 = Publication(
    # The end token is the padding token too.
    template="$A </s>",
    padding_side="left",
    pooling="lasttoken",
    prompts={"query": RETRIEVAL, "document": ""},
    query=RETRIEVAL,
    tokenizer_settings={"bos_token": None, "pad_token": "</s>"},
)
PUBLICATIONS: dict[str, Publication] = {
    "multilingual-e5-large-instruct": Publication(pooling="mean_tokens", prompts={}, query=RETRIEVAL + " "),
    "e5-mistral-7b-instruct": Publication(
        padding_side="left",
        pooling="lasttoken",
        prompts={"web_search_query": RETRIEVAL + " ", "sts_query": "Instruct: Retrieve semantically similar text.\n"},
        query=RETRIEVAL + " ",
        tokenizer_settings={"pad_token": "</s>"},
    ),
    "arctic-embed-l-v2": Publication(pooling="cls_token", prompts={"query": "query: "}, query="query: "),
    "gte-multilingual-base": Publication(pooling="cls_token"),
    "jina-embeddings-v3": Publication(pooling=None),
    "mmbert-small": Publication(pooling=None),
    "mmbert-base": Publication(pooling=None),
    "qwen3-embedding-0.6b": _QWEN3,
    "qwen3-embedding-4b": _QWEN3,
    "qwen3-embedding-8b": _QWEN3,
    "embeddinggemma-300m": Publication(
        pooling="mean_tokens",
        dense=(4 * WIDTH, WIDTH),
        prompts={
            "query": "task: search result | query: ",
            "document": "title: none | text: ",
            "Clustering": "task: clustering | query: ",
        },
        query="task: search result | query: ",
        passage="title: none | text: ",
    ),
}


def published_tokenizer(publication: Publication) -> PreTrainedTokenizerFast:
    """The small tokenizer of all tests, with the publisher's template around a text."""
    changed = copy.deepcopy(tokenizer())
    changed.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=publication.template, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    for name, value in publication.tokenizer_settings.items():
        setattr(changed, name, value)
    changed.padding_side = publication.padding_side
    return changed


def small_backbone(name: str) -> PreTrainedModel:
    """The architecture of a published model, few layers and narrow, weights large enough for texts to differ."""
    model = named_model(name)
    assert model is not None
    config = published_config(model.hub_id)
    assert config is not None
    small = {**_SHRUNK, **_SHRUNK_PARTS.get(config.model_type, {}), "vocab_size": len(tokenizer())}
    config = type(config).from_dict({**config.to_dict(), **small})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = AutoModel.from_config(config, dtype=torch.float32)
        for parameter in backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    return backbone.eval()


def publish(directory: Path, name: str) -> Path:
    """Write a folder as the publisher of `name` does; it is called like the last part of the hub id."""
    model = named_model(name)
    assert model is not None
    publication = PUBLICATIONS[name]
    folder = directory / model.hub_id.rpartition("/")[2]
    small_backbone(name).save_pretrained(folder)
    published_tokenizer(publication).save_pretrained(folder)
    if publication.pooling is not None:
        _write_modules(folder, publication, model.max_length)
    return folder


def _write_modules(folder: Path, publication: Publication, longest: int) -> None:
    kinds = ["Transformer", "Pooling", *["Dense"] * len(publication.dense), "Normalize"]
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": f"{index}_{kind}" if index else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]
    _write(folder / "modules.json", modules)
    modes = {f"pooling_mode_{mode}": mode == publication.pooling for mode in ("cls_token", "mean_tokens", "lasttoken")}
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, **modes, "include_prompt": True})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
    generator = torch.Generator().manual_seed(1)
    before = WIDTH
    for index, width in enumerate(publication.dense, 2):
        activation = "torch.nn.modules.linear.Identity"
        sizes = {"in_features": before, "out_features": width, "bias": False, "activation_function": activation}
        _write(folder / f"{index}_Dense" / "config.json", sizes)
        weights = {"linear.weight": torch.randn(width, before, generator=generator) / before**0.5}
        save_file(weights, folder / f"{index}_Dense" / "model.safetensors", metadata={"format": "pt"})
        before = width
    if publication.prompts is not None:
        _write(folder / "config_sentence_transformers.json", {"prompts": publication.prompts})


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
