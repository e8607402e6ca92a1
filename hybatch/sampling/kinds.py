"""The kinds of batch: a table. Sampler, summary, options, reports and tests read it; a new kind is one entry here and
its recipe in configs/samplers.

Every global batch is of one kind. Of each of its examples the question is in one language and the passage in one; a
kind says which these may be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_LANGUAGE_NAMES = {"en": "English"}


@dataclass(frozen=True, kw_only=True)
class BatchKind:
    """What the examples of a batch have in common.

    Attributes:
        name: in configurations, metrics and results.
        label: in tables and figures, as arXiv 2408.10536 writes it.
        summary: for the help of the option.
        match: whether an example's question and passage are in the same language or in different ones.
        one_language: whether that language is one for the whole batch (drawn per batch), or each example's own.
        question, passage: the only language that questions or passages may be in; None: any that is trained on.
    """

    name: str
    label: str
    summary: str
    match: Literal["same", "different"]
    one_language: bool = False
    question: str | None = None
    passage: str | None = None

    @property
    def fixed_languages(self) -> tuple[str, ...]:
        """Languages that a corpus must have for this kind, in alphabetical order."""
        return tuple(sorted({code for code in (self.question, self.passage) if code is not None}))

    def needs(self, language: str | None = None) -> str:
        """What an example must have, for messages: "no example has ..."; `language`: of a batch in one language."""
        if self.match == "same":
            return f"both question and passage in {language or 'one of the languages trained on'}"
        question, passage = (_LANGUAGE_NAMES.get(code or "", code) for code in (self.question, self.passage))
        if passage is not None:
            return f"a question in a language trained on other than its passage's, {passage}"
        if question is not None:
            return f"a passage in a language trained on other than its question's, {question}"
        return "a question and a passage in two different languages trained on"


KINDS = {
    kind.name: kind
    for kind in (
        BatchKind(
            name="x-x-mono",
            label="X-X-mono",
            summary="one language for the whole batch",
            match="same",
            one_language=True,
        ),
        BatchKind(
            name="x-x",
            label="X-X",
            summary="each example in a language of its own, question and passage alike",
            match="same",
        ),
        BatchKind(
            name="x-y",
            label="X-Y",
            summary="question and passage of each example in two different languages",
            match="different",
        ),
        BatchKind(
            name="en-en",
            label="En-En",
            summary="English",
            match="same",
            one_language=True,
            question="en",
            passage="en",
        ),
        BatchKind(
            name="x-en",
            label="X-En",
            summary="questions in any other language, passages in English",
            match="different",
            passage="en",
        ),
        BatchKind(
            name="en-x",
            label="En-X",
            summary="questions in English, passages in any other language",
            match="different",
            question="en",
        ),
    )
}

MONOLINGUAL, CROSS_LINGUAL = "x-x-mono", "x-y"
"""The two kinds that hybrid batches mix unless `sampling.mixture` says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Composition:
    """A run whose batches are of several kinds; attributes as of `BatchKind`."""

    name: str
    label: str
    summary: str


COMPOSITIONS = {
    composition.name: composition
    for composition in (
        Composition(
            name="hybrid",
            label="Hybrid",
            summary="each batch of a kind drawn by its share of `mixture`; by default x-x-mono with probability alpha, "
            "else x-y",
        ),
        Composition(
            name="sequential",
            label="Sequential",
            summary="one kind after the other, as `phases` says; by default x-x-mono for the first `share` of the "
            "steps, then x-y",
        ),
    )
}

LABELS = {name: entry.label for name, entry in (KINDS | COMPOSITIONS).items()}
"""What tables call each value of `sampling.kind`, in the order of tables."""


def language_name(code: str) -> str:
    """What messages call a language that a kind asks for."""
    return _LANGUAGE_NAMES.get(code, code)
