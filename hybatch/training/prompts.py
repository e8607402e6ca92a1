"""Data sets whose texts have prompts of their own: what stands before them, and under which names a model keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from transformers import PreTrainedTokenizerBase

from hybatch.corpus import CorpusConfig
from hybatch.errors import UserError
from hybatch.models import EncoderConfig
from hybatch.models.folder.prompts import names_of
from hybatch.models.tokenization import check_room, tokenize
from hybatch.training.step.batches import Tokenize


def has_prompts(corpus: CorpusConfig) -> bool:
    """Whether a data set says itself what stands before its queries or its passages."""
    return corpus.query_prefix is not None or corpus.passage_prefix is not None


def prompted(model: EncoderConfig, corpus: CorpusConfig) -> EncoderConfig:
    """The encoder's configuration with what a data set has in the place of its prefixes."""
    return replace(
        model,
        query_prefix=model.query_prefix if corpus.query_prefix is None else corpus.query_prefix,
        passage_prefix=model.passage_prefix if corpus.passage_prefix is None else corpus.passage_prefix,
    )


def saved_prompts(model: EncoderConfig, corpora: Sequence[CorpusConfig], names: Sequence[str]) -> dict[str, str]:
    """The prompts that a model's folder has for the data sets it was trained on, beside its own.

    Args:
        names: of the corpora, as tables call them.

    Raises:
        UserError: two of them have one name and other prompts.
    """
    prompts: dict[str, str] = {}
    for name, corpus in zip(names, corpora, strict=True):
        if has_prompts(corpus):
            config = prompted(model, corpus)
            own = {names_of(name)[role]: config.prefix(role) for role in names_of(name)}
            if any(prompts.get(key, text) != text for key, text in own.items()):
                raise UserError(
                    f"corpora: two are called {name}, and have other prefixes, under which the model's folder keeps "
                    "their prompts; give one another name"
                )
            prompts |= own
    return prompts


def tokenize_each(
    tokenizer: PreTrainedTokenizerBase, model: EncoderConfig, corpora: Sequence[CorpusConfig], where: str = "corpora"
) -> dict[int, Tokenize]:
    """How the texts of those data sets that have prompts are tokenized, by their places.

    Args:
        where: what messages call the list of them.

    Raises:
        UserError: a prefix leaves no room for a text.
    """
    found: dict[int, Tokenize] = {}
    for place, corpus in enumerate(corpora):
        if has_prompts(corpus):
            config = prompted(model, corpus)
            try:
                check_room(tokenizer, config)
            except UserError as error:
                raise UserError(f"{where}.{place} has prefixes of its own: {error}") from error
            found[place] = partial(tokenize, tokenizer, config)
    return found
