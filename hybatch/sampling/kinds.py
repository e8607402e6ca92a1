"""The kinds of batch: a table. Sampler, summary, options, reports and tests read it; a new kind is one entry here and
its recipe in configs/samplers.

Every global batch is of one kind. Of each of its examples the query is in one language and the passage in one; a kind
says which these may be, and whether the query is the example's question or its passage in another language.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Match = Literal["same", "different", "free"]
Text = Literal["question", "passage"]

_LANGUAGE_NAMES = {"en": "English"}


@dataclass(frozen=True, kw_only=True)
class BatchKind:
    """What the examples of a batch have in common.

    Attributes:
        name: in configurations, metrics and results.
        label: in tables and figures, as arXiv 2408.10536 writes it.
        summary: for help and `hybatch batches`.
        match: whether an example's question and passage are in the same language, in different ones, or in any two.
        one_language: whether that language is one for the whole batch (drawn per batch), or each example's own.
        question, passage: the only language that queries or passages may be in; None: any that is trained on.
        query_text: what stands on the query side. A passage there is encoded as one, with the prefix and the maximum
            length of passages; as either of the two may then ask for the other, a loss counts both ways.

    Raises:
        ValueError: no batch could be of the kind.
    """

    name: str
    label: str
    summary: str
    match: Match
    one_language: bool = False
    question: str | None = None
    passage: str | None = None
    query_text: Text = "question"

    def __post_init__(self) -> None:
        both_fixed = self.question is not None and self.passage is not None
        if both_fixed and self.match == ("different" if self.question == self.passage else "same"):
            raise ValueError(f"{self.name}: {self.question} and {self.passage} are never {self.match}")
        if self.one_language and self.match != "same":
            raise ValueError(f"{self.name}: a batch in one language has questions and passages in the same")
        if self.query_text == "passage" and self.match != "different":
            raise ValueError(f"{self.name}: a passage that asks for itself in its own language teaches nothing")

    @property
    def asks_both_ways(self) -> bool:
        """Whether either text of a pair may be the query: the loss is then that of both directions, averaged."""
        return self.query_text == "passage"

    @property
    def fixed_languages(self) -> tuple[str, ...]:
        """Languages that a corpus must have for this kind, in alphabetical order."""
        return tuple(sorted({code for code in (self.question, self.passage) if code is not None}))

    def needs(self, language: str | None = None) -> str:
        """What an example must have, for messages: "no example has ..."; `language`: of a batch in one language."""
        if self.match == "same":
            fixed = language or next(map(language_name, self.fixed_languages), None)
            return f"both question and passage in {fixed or 'one of the languages trained on'}"
        names = [language_name(code) for code in self.fixed_languages]
        if not names:
            which = "two different languages" if self.match == "different" else "languages"
            texts = "passages" if self.query_text == "passage" else "a question and a passage"
            return f"{texts} in {which} trained on"
        other = f"a language trained on other than {names[0]}" if self.match == "different" else "a language trained on"
        question, passage = (other if code is None else language_name(code) for code in (self.question, self.passage))
        return f"a {self.query_text} in {question} and a passage in {passage}"


def language_name(code: str) -> str:
    """What messages call a language that a kind asks for."""
    return _LANGUAGE_NAMES.get(code, code)


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
            name="bitext",
            label="Bitext",
            summary="each passage against its translation, in two different languages, both ways",
            match="different",
            query_text="passage",
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
"""The two kinds of a run of several unless it names others, and those that validation measures."""


@dataclass(frozen=True, kw_only=True)
class Composition:
    """A run whose batches are of several kinds.

    Attributes:
        name, label, summary: as of `BatchKind`.
        option: the one of `sampling` that says which, and how much of each.
        short_form: the one that, without `option`, says how much is `MONOLINGUAL`; the rest is `CROSS_LINGUAL`.
    """

    name: str
    label: str
    summary: str
    option: str
    short_form: str


COMPOSITIONS = {
    composition.name: composition
    for composition in (
        Composition(
            name="hybrid",
            label="hybrid",
            option="mixture",
            short_form="alpha",
            summary="each batch of a kind drawn by its share of `mixture`; by default x-x-mono with probability alpha, "
            "else x-y",
        ),
        Composition(
            name="sequential",
            label="sequential",
            option="phases",
            short_form="share",
            summary="one kind after the other, as `phases` says; by default x-x-mono for the first `share` of the "
            "steps, then x-y",
        ),
    )
}

LABELS = {name: entry.label for name, entry in (KINDS | COMPOSITIONS).items()}
"""What tables call each value of `sampling.kind`, in the order of tables."""
