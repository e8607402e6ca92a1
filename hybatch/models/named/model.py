"""What is known of a published encoder."""

from __future__ import annotations

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
        dense: widths of the linear layers that its folder has behind the pooling, without bias and activation, so that
            they can be counted before the folder is there; they are read from the folder, never made up.
        query_prefix: put before a query; None where the publisher has no habit, so that a model off the shelf has no
            prefix and a training run has the project's.
        passage_prefix: likewise, before a passage.
        max_length: tokens of the longest text that it was made for.
        source: the paper that describes it.
        licence: of the weights.
    """

    name: str
    hub_id: str
    pooling: Literal["cls", "mean", "last"]
    head: Literal["none", "pooler"] = "none"
    dense: tuple[int, ...] = ()
    query_prefix: str | None = None
    passage_prefix: str | None = None
    max_length: int
    source: str
    licence: str


@dataclass(frozen=True, kw_only=True)
class NeedsCode:
    """Published encoders that only code of their own can read, which hybatch never runs.

    Attributes:
        code: the hub's repository of that code, as `auto_map` in a folder's config.json names it.
        hub_id: the encoder.
        instead: what to do, the end of a sentence.
    """

    code: str
    hub_id: str
    instead: str
