"""What an encoder is made of: the options of the `model` section."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hybatch.errors import UserError
from hybatch.models.folder.prompts import passage_prompt, prompts_of, query_prompt
from hybatch.models.lora.config import LoraConfig
from hybatch.models.named import named_model
from hybatch.options import check_options, limits

Role = Literal["query", "passage"]
PoolingMode = Literal["cls", "mean", "last", "max"]
AttentionDirection = Literal["causal", "bidirectional"]
_QUERY_PREFIX = "Query: "
_PASSAGE_PREFIX = "Passage: "
_WIDTH = limits(ge=1, le=100_000)
# Room for two special tokens and one of the text.
_LENGTH = limits(ge=3, le=2**31 - 1)
_MOST_POSITIONS = 1_000_000


@dataclass(kw_only=True)
class FreshBackboneConfig:
    """A backbone with random weights, and a tokenizer trained on the corpus."""

    architecture: str = "xlm-roberta"
    """Any `model_type` of transformers that encodes text. Without layers, take one that adds no positions to its token
    embeddings, as `nomic_bert` and `jina_embeddings_v3` (XLM-R's layers with rotary positions) do not."""
    vocabulary_size: int = field(default=32000, metadata=limits(ge=300, le=5_000_000))
    """Tokens of the trained tokenizer at most, 5 special and 256 byte tokens included."""
    width: int = field(default=256, metadata=_WIDTH)
    """Width of the hidden states, and of the embedding where no head changes it."""
    layers: int = field(default=2, metadata=limits(ge=0, le=1000))
    """Transformer layers. 0 leaves the token embeddings: with mean pooling, an averaged bag of subwords."""
    heads: int | None = field(default=None, metadata=_WIDTH)
    """Attention heads; by default one per 64 of the width, at least one."""
    intermediate_size: int | None = field(default=None, metadata=limits(ge=1, le=1_000_000))
    """Width inside the feed-forward blocks; by default four times the width."""
    dropout: float = field(default=0.1, metadata=limits(ge=0, lt=1))
    """Probability of every dropout that the architecture has."""
    max_positions: int | None = field(default=None, metadata=limits(ge=1, le=_MOST_POSITIONS))
    """Longest input in tokens; by default the longer of the query's and the passage's maximum length."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further settings of the architecture's own configuration, by its own names."""
    lowercase: bool = False
    """Whether the tokenizer lowers the case of every text."""
    tokenizer_texts: int = field(default=200_000, metadata=limits(ge=1, le=1_000_000_000))
    """The tokenizer is trained on this many texts, drawn evenly; more texts take longer, in proportion."""

    def __post_init__(self) -> None:
        check_options(self, "model.fresh")


@dataclass(kw_only=True)
class EncoderConfig:
    """Backbone, pooling, optional head, prefixes, lengths; exactly one of `backbone` and `fresh` is given."""

    backbone: str | None = None
    """Hub id, folder or short name (`xlm-r-base`, `labse`, `multilingual-e5-base`, `bge-m3`, `mmbert-base`,
    `qwen3-embedding-0.6b`, `embeddinggemma-300m` and others) of a pretrained backbone: transformers' or
    sentence-transformers' layout."""
    fresh: FreshBackboneConfig | None = None
    """A backbone of random weights instead of a pretrained one."""
    pooling: PoolingMode | None = None
    """Token that stands for the text (`cls`, `last`), or the mean or the maximum of all. By default what the backbone
    is used to: a sentence-transformers folder's own, that of a model known by name, else `mean`."""
    head: Literal["none", "pooler", "dense"] | None = None
    """Layer over the pooled vector: `dense` one linear layer and tanh (the folder's own where it has one), `pooler` the
    same started from BERT's pooler. By default what the backbone is used to: the folder's own, `pooler` for LaBSE, else
    `none`."""
    head_size: int | None = field(default=None, metadata=_WIDTH)
    """Embedding width behind a new dense head; by default the backbone's width."""
    query_prefix: str | None = None
    """Put before every query; an instruction belongs here, whole. By default what the backbone is used to (its folder's
    prompt, `query: ` for E5, nothing for BGE-M3, an instruction for Qwen3-Embedding), else `Query: `."""
    passage_prefix: str | None = None
    """Put before every passage. By default what the backbone is used to (its folder's prompt, `passage: ` for E5,
    nothing for BGE-M3), else `Passage: `."""
    query_max_length: int = field(default=64, metadata=_LENGTH)
    """Tokens of a query at most, prefix and special tokens included; what is longer is cut."""
    passage_max_length: int = field(default=256, metadata=_LENGTH)
    """Tokens of a passage at most, prefix and special tokens included; what is longer is cut."""
    gradient_checkpointing: bool = False
    """Compute the layers a second time in the backward pass instead of keeping their activations."""
    attn_implementation: str | None = None
    """transformers' attention: `sdpa`, `eager`, `flash_attention_2` ...; by default sdpa where the architecture has it,
    else eager."""
    attention: AttentionDirection | None = None
    """Which tokens of its text a decoder's token sees: those before it (causal) or all (bidirectional), saved with the
    model; by default as the backbone's configuration says. Gemma, Gemma 3, Llama, Mistral, Qwen2 and Qwen3."""
    dropout: float | None = field(default=None, metadata=limits(ge=0, lt=1))
    """Probability of every dropout of a pretrained backbone while it is trained; by default its own. 0 is faster, above
    all on a CPU, where attention with dropout has no fused kernel."""
    unpad: Literal["auto", "always", "never"] = "auto"
    """Run texts through the backbone as one sequence, without padding. auto: where the architecture is known to allow
    it and attention is sdpa; always: refuse other backbones; never: with padding. The vectors are the same but for
    rounding."""
    lora: LoraConfig | None = None
    """Freeze a pretrained backbone, and the dense layer that comes with it, and train updates of low rank beside its
    linear layers; a new dense head learns too. By default every weight learns."""

    def __post_init__(self) -> None:
        """Fill in the prefixes at once, so that what is saved with a run or a model says what was encoded."""
        check_options(self, "model")
        if self.query_prefix is None or self.passage_prefix is None:
            query, passage = _habits(self.backbone)
            if self.query_prefix is None:
                self.query_prefix = _QUERY_PREFIX if query is None else query
            if self.passage_prefix is None:
                self.passage_prefix = _PASSAGE_PREFIX if passage is None else passage

    def prefix(self, role: Role) -> str:
        """What is put before a text of this role."""
        prefix = self.query_prefix if role == "query" else self.passage_prefix
        assert prefix is not None
        return prefix

    def max_length(self, role: Role) -> int:
        """Tokens of a text of this role at most."""
        return self.query_max_length if role == "query" else self.passage_max_length


def _habits(backbone: str | None) -> tuple[str | None, str | None]:
    """What a backbone is used to before a query and a passage: its folder's prompts, else what the table says."""
    if backbone is None:
        return None, None
    named = named_model(backbone)
    if named is not None and not Path(os.path.expandvars(backbone)).expanduser().is_dir():
        return named.query_prefix, named.passage_prefix  # without asking the hub
    prompts = prompts_of(backbone)
    query, passage = query_prompt(prompts), passage_prompt(prompts)
    if named is None:
        return query, passage
    return query or named.query_prefix, passage or named.passage_prefix


def check_config(config: EncoderConfig) -> None:
    """Check what can be checked before anything is read.

    Raises:
        UserError: neither or both of `backbone` and `fresh`; sizes that do not go together; a head that contradicts
            the pooling.
    """
    if (config.backbone is None) == (config.fresh is None):
        given = "neither is" if config.backbone is None else "both are"
        raise UserError(f"model.backbone and model.fresh: {given} given; give exactly one of the two")
    if config.head == "pooler" and config.pooling not in (None, "cls"):
        raise UserError(
            f"model.pooling is {config.pooling!r}, but model.head 'pooler' reads the first token: "
            "use pooling 'cls', or head 'dense'"
        )
    if config.head_size is not None and config.head != "dense":
        raise UserError("model.head_size is given without model.head 'dense': set the head, or leave the size out")
    if config.fresh is not None:
        if config.dropout is not None:
            raise UserError("model.dropout is of a pretrained backbone: a fresh one has model.fresh.dropout")
        if config.lora is not None:
            raise UserError("model.lora is of a pretrained backbone: random weights must learn, leave it out")
        _check_fresh(config, config.fresh)


def _check_fresh(config: EncoderConfig, fresh: FreshBackboneConfig) -> None:
    if fresh.heads is not None and fresh.width % fresh.heads and "head_dim" not in fresh.options:
        raise UserError(f"model.fresh.heads is {fresh.heads}: does not divide model.fresh.width {fresh.width}")
    longest = max(config.query_max_length, config.passage_max_length)
    if longest > _MOST_POSITIONS:
        raise UserError(
            f"a text may have {longest} tokens (model.query_max_length, model.passage_max_length), a fresh backbone "
            f"has {_MOST_POSITIONS:,} positions at most: lower the length"
        )
    if fresh.max_positions is not None and fresh.max_positions < longest:
        raise UserError(
            f"model.fresh.max_positions is {fresh.max_positions}, but a text may have {longest} tokens "
            "(model.query_max_length, model.passage_max_length): raise it, or leave it out"
        )
