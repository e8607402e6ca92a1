"""Phrasings of questions and passages: `data/templates/<kind>.yaml`, and how they are filled in.

A file holds the kind's `asides` (generic clauses, true of every entity of the kind, that distract from the fact) and
its `relations`; each relation has its `vocabulary` (the names of the tables its values come from, empty where the
value is written as it stands, like a number), `questions` and `passages`: per language, one phrasing a line. Names are
filled in as they stand in the tables, so a phrasing must put them where its language wants the citation form.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import yaml

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
DATA = Path(__file__).parent / "data"
MIN_PHRASINGS = 3

Phrasings = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Relation:
    """How one relation of a kind is asked for and stated.

    `questions` and `passages` hold, per language, the same number of phrasings; phrasings of one number correspond.
    """

    name: str
    vocabulary: tuple[str, ...]
    questions: Phrasings
    passages: Phrasings

    @property
    def num_questions(self) -> int:
        """Phrasings of the question in each language."""
        return len(self.questions[LANGUAGES[0]])

    @property
    def num_passages(self) -> int:
        """Phrasings of the passage in each language."""
        return len(self.passages[LANGUAGES[0]])


@dataclass(frozen=True)
class Kind:
    """One kind of entity: its relations by name, and its asides per language."""

    name: str
    asides: Phrasings
    relations: dict[str, Relation]

    @property
    def num_asides(self) -> int:
        """Asides in each language."""
        return len(self.asides[LANGUAGES[0]])


@dataclass(frozen=True)
class Statement:
    """A filled-in passage, and where in it (in code points) the value stands."""

    text: str
    value_start: int


@cache
def load_kinds() -> dict[str, Kind]:
    """All kinds by name, in alphabetical order.

    Raises:
        ValueError: a file lacks a language, a phrasing or a placeholder.
    """
    return {path.stem: _read_kind(path) for path in sorted((DATA / "templates").glob("*.yaml"))}


def fill_question(template: str, entity: str) -> str:
    """The question with the entity's name in its place."""
    return template.format(entity=entity)


def fill_passage(template: str, *, entity: str, value: str, aside: str) -> Statement:
    """The passage with the three texts in their places."""
    texts = {"entity": entity, "value": value, "aside": aside}
    text, value_start = "", -1
    for literal, field, _, _ in Formatter().parse(template):
        text += literal
        if field is not None:
            if field == "value":
                value_start = len(text)
            text += texts[field]
    return Statement(text, value_start)


def _read_kind(path: Path) -> Kind:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    relations = {}
    for name, entry in document["relations"].items():
        where = f"{path.name}: {name}"
        relations[name] = Relation(
            name=name,
            vocabulary=tuple(entry["vocabulary"]),
            questions=_phrasings(entry["questions"], f"{where}: questions", {"entity"}),
            passages=_phrasings(entry["passages"], f"{where}: passages", {"entity", "value", "aside"}),
        )
    return Kind(path.stem, _phrasings(document["asides"], f"{path.name}: asides", set()), relations)


def _phrasings(texts: dict[str, Any], where: str, fields: set[str]) -> Phrasings:
    """Split each language's text into its lines and check them."""
    if tuple(texts) != LANGUAGES:
        raise ValueError(f"{where}: languages are {tuple(texts)}, expected {LANGUAGES}")
    phrasings = {language: tuple(texts[language].splitlines()) for language in LANGUAGES}
    for language, templates in phrasings.items():
        if len(templates) < MIN_PHRASINGS or len(templates) != len(phrasings[LANGUAGES[0]]):
            raise ValueError(f"{where}: {language} has {len(templates)} phrasings")
        for template in templates:
            found = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
            if sorted(found) != sorted(fields):
                raise ValueError(f"{where}: {language}: {template!r} needs each of {sorted(fields)} once")
    return phrasings
