"""Published multilingual encoders by short name: where they are, and how each of them wants its texts.

Sources: the model cards and configuration files on the Hugging Face hub, and the papers named in `docs/encoders.md`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A published encoder and its habits; every habit gives way to an explicit option.

    Attributes:
        name: what it is called on the command line and in a recipe.
        hub_id: its address on the Hugging Face hub.
        pooling: what stands for the text where the folder does not say.
        head: `pooler` where BERT's pooler is part of the embedding and the folder brings no dense layer.
        query_prefix: put before a query; None where the publisher has no habit, so that a model off the shelf has no
            prefix and a training run has the project's.
        passage_prefix: likewise, before a passage.
        max_length: tokens of the longest text that it was made for.
        source: the paper that describes it.
        licence: of the weights.
    """

    name: str
    hub_id: str
    pooling: Literal["cls", "mean"]
    head: Literal["none", "pooler"] = "none"
    query_prefix: str | None = None
    passage_prefix: str | None = None
    max_length: int
    source: str
    licence: str


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
)


def named_model(path_or_hub_id: str) -> NamedModel | None:
    """The published model that a name, a hub id or the name of a folder speaks of; None for any other.

    A folder is known by its own name, the model's short one or the last part of its hub id, so that a copy on a machine
    without a connection behaves as the original; case does not matter.
    """
    given = path_or_hub_id.rstrip("/").lower()
    own_name = given.rpartition("/")[2]
    for model in NAMED_MODELS:
        if given == model.hub_id.lower() or own_name in (model.name, model.hub_id.lower().rpartition("/")[2]):
            return model
    return None


def hub_id(path_or_hub_id: str) -> str:
    """The hub id behind a short name; anything else comes back as it is."""
    return next((model.hub_id for model in NAMED_MODELS if model.name == path_or_hub_id.lower()), path_or_hub_id)


def near_names(path_or_hub_id: str) -> str:
    """What to add to a message on a model that nobody knows: the names that look like it, or all of them."""
    if path_or_hub_id.lower().startswith("laser"):
        return "; LASER-2 is not on the hub: give the folder that holds laser2.pt, laser2.spm and laser2.cvocab"
    names = [model.name for model in NAMED_MODELS]
    given = path_or_hub_id.lower()
    near = difflib.get_close_matches(given, names, n=4, cutoff=0.6)
    near += [name for name in names if name not in near and (name.startswith(given) or given.startswith(name))]
    return f"; near names: {', '.join(near)}" if near else f"; known by name: {', '.join(names)}"
