"""The table of published encoders.

Sources: the model cards and configuration files on the Hugging Face hub, and the papers named in `docs/encoders.md`.
"""

from __future__ import annotations

from typing import Literal

from hybatch.models.named.model import NamedModel, NeedsCode

# The task that Qwen's and E5's cards name for retrieval; another goes into the query's prefix.
_TASK = "Given a web search query, retrieve relevant passages that answer the query"


def _xlmr(size: str, hub_id: str, source: str) -> NamedModel:
    return NamedModel(name=f"xlm-r-{size}", hub_id=hub_id, pooling="mean", max_length=512, source=source, licence="MIT")


def _e5(size: str) -> NamedModel:
    return NamedModel(
        name=f"multilingual-e5-{size}",
        hub_id=f"intfloat/multilingual-e5-{size}",
        pooling="mean",
        query_prefix="query: ",
        passage_prefix="passage: ",
        max_length=512,
        source="arXiv 2402.05672",
        licence="MIT",
    )


def _e5_instruct(name: str, pooling: Literal["mean", "last"], max_length: int, source: str) -> NamedModel:
    return NamedModel(
        name=name,
        hub_id=f"intfloat/{name}",
        pooling=pooling,
        query_prefix=f"Instruct: {_TASK}\nQuery: ",
        passage_prefix="",
        max_length=max_length,
        source=source,
        licence="MIT",
    )


def _qwen3(size: str) -> NamedModel:
    return NamedModel(
        name=f"qwen3-embedding-{size.lower()}",
        hub_id=f"Qwen/Qwen3-Embedding-{size}",
        pooling="last",
        query_prefix=f"Instruct: {_TASK}\nQuery:",
        passage_prefix="",
        max_length=32768,
        source="arXiv 2506.05176",
        licence="Apache-2.0",
    )


def _mmbert(size: str) -> NamedModel:
    return NamedModel(
        name=f"mmbert-{size}",
        hub_id=f"jhu-clsp/mmBERT-{size}",
        pooling="mean",
        max_length=8192,
        source="arXiv 2509.06888",
        licence="MIT",
    )


LABSE = NamedModel(
    name="labse",
    hub_id="sentence-transformers/LaBSE",
    pooling="cls",
    head="pooler",
    max_length=256,
    source="arXiv 2007.01852",
    licence="Apache-2.0",
)
NAMED_MODELS: tuple[NamedModel, ...] = (
    _xlmr("base", "FacebookAI/xlm-roberta-base", "arXiv 1911.02116"),
    _xlmr("large", "FacebookAI/xlm-roberta-large", "arXiv 1911.02116"),
    _xlmr("xl", "facebook/xlm-roberta-xl", "arXiv 2105.00572"),
    _xlmr("xxl", "facebook/xlm-roberta-xxl", "arXiv 2105.00572"),
    LABSE,
    NamedModel(
        name="mdeberta-v3",
        hub_id="microsoft/mdeberta-v3-base",
        pooling="mean",
        max_length=512,
        source="arXiv 2111.09543",
        licence="MIT",
    ),
    NamedModel(
        name="mbert",
        hub_id="google-bert/bert-base-multilingual-cased",
        pooling="mean",
        max_length=512,
        source="arXiv 1810.04805",
        licence="Apache-2.0",
    ),
    _e5("small"),
    _e5("base"),
    _e5("large"),
    _e5_instruct("multilingual-e5-large-instruct", "mean", 512, "arXiv 2402.05672"),
    _e5_instruct("e5-mistral-7b-instruct", "last", 4096, "arXiv 2401.00368"),
    NamedModel(
        name="bge-m3",
        hub_id="BAAI/bge-m3",
        pooling="cls",
        query_prefix="",
        passage_prefix="",
        max_length=8192,
        source="arXiv 2402.03216",
        licence="MIT",
    ),
    NamedModel(
        name="arctic-embed-l-v2",
        hub_id="Snowflake/snowflake-arctic-embed-l-v2.0",
        pooling="cls",
        query_prefix="query: ",
        passage_prefix="",
        max_length=8192,
        source="arXiv 2412.04506",
        licence="Apache-2.0",
    ),
    NamedModel(
        name="gte-multilingual-base",
        hub_id="alibaba-nlp-community/gte-multilingual-base",
        pooling="cls",
        query_prefix="",
        passage_prefix="",
        max_length=8192,
        source="arXiv 2407.19669",
        licence="Apache-2.0",
    ),
    NamedModel(
        name="jina-embeddings-v3",
        hub_id="jinaai/jina-embeddings-v3-hf",
        pooling="mean",
        max_length=8192,
        source="arXiv 2409.10173",
        licence="CC-BY-NC-4.0",
    ),
    _mmbert("small"),
    _mmbert("base"),
    _qwen3("0.6B"),
    _qwen3("4B"),
    _qwen3("8B"),
    NamedModel(
        name="embeddinggemma-300m",
        hub_id="google/embeddinggemma-300m",
        pooling="mean",
        dense=(3072, 768),
        query_prefix="task: search result | query: ",
        passage_prefix="title: none | text: ",
        max_length=2048,
        source="arXiv 2509.20354",
        licence="Gemma Terms of Use",
    ),
)

NEEDS_CODE: tuple[NeedsCode, ...] = (
    NeedsCode(
        code="Alibaba-NLP/new-impl",
        hub_id="Alibaba-NLP/gte-multilingual-base",
        instead="transformers knows the architecture as 'gte'; alibaba-nlp-community/gte-multilingual-base has the "
        "published weights under it",
    ),
    NeedsCode(
        code="jinaai/xlm-roberta-flash-implementation",
        hub_id="jinaai/jina-embeddings-v3",
        instead="transformers knows the architecture as 'jina_embeddings_v3'; jinaai/jina-embeddings-v3-hf has the "
        "published weights under it",
    ),
    NeedsCode(
        code="nomic-ai/nomic-bert-2048",
        hub_id="nomic-ai/nomic-embed-text-v2-moe",
        instead="transformers has this architecture without experts; take another multilingual encoder, such as "
        "gte-multilingual-base or arctic-embed-l-v2",
    ),
)
"""Encoders whose first publication cannot be read without its code."""
