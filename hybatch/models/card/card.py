"""The text of a model card: front matter as the Hugging Face hub reads it, then Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import jinja2
from huggingface_hub import ModelCardData

from hybatch.models.card.base import BaseModel, base_model
from hybatch.models.card.versions import versions_used
from hybatch.models.config import EncoderConfig

_TAGS = ("sentence-transformers", "sentence-similarity", "feature-extraction", "multilingual", "hybatch")
# The codes that the hub takes for languages; others stand in the text alone.
_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What whoever saves an encoder knows of how it was made. Nothing of it may be a path, a time or a process count.

    Attributes:
        title: what the encoder is called.
        made: a paragraph of Markdown.
        base: what it was made from; None for one of random weights.
        languages: that it was trained or fitted on.
        data: (name, what it is) of each data set.
        datasets: those of them that are on the hub, by id.
        recipe: (what, value), row by row.
    """

    title: str
    made: str
    base: BaseModel | None
    languages: Sequence[str] = ()
    data: Sequence[tuple[str, str]] = ()
    datasets: Sequence[str] = ()
    recipe: Sequence[tuple[str, str]] = ()


def saved_as_it_is(config: EncoderConfig) -> Origin:
    """Of an encoder that is saved by nobody who knows more."""
    base = None if config.backbone is None else base_model(config.backbone)
    name = "Encoder of random weights" if base is None else base.name
    return Origin(title=name, made=f"Saved by {versions_used()}.", base=base)


def model_card(
    config: EncoderConfig, origin: Origin, *, width: int, further: Mapping[str, str], by_language: bool
) -> str:
    """The whole file; equal arguments give equal bytes.

    Args:
        config: of the encoder, pooling settled.
        width: of its vectors.
        further: its prompts beside query, passage and document, by name.
        by_language: its vectors are moved by the language of each text.
    """
    base = origin.base
    facts = ModelCardData(
        language=[code for code in origin.languages if _LANGUAGE.fullmatch(code)] or None,
        license=None if base is None else base.licence,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=list(_TAGS),
        datasets=list(origin.datasets) or None,
        base_model=None if base is None else base.hub_id,
    )
    text = _template().render(
        origin=origin, base=base, config=config, width=width, further=further, by_language=by_language
    )
    return f"---\n{facts.to_yaml()}\n---\n\n{text}"


def cell(text: str) -> str:
    """A text in a cell of a Markdown table: one line, no bars."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """A text as code in a cell, spaces at its ends kept visible; "none" for an empty one."""
    lines = (text + ".").splitlines()  # the full stop keeps a line end that is the last character
    shown = "\\n".join(lines)[:-1].replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if shown else "none"


@cache
def _template() -> jinja2.Template:
    # Markdown, not HTML: nothing is escaped but what stands in tables.
    environment = jinja2.Environment(
        autoescape=False, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"cell": cell, "code": code}
    source = files("hybatch.models.card").joinpath("card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(source)
