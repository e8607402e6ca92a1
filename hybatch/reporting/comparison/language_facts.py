"""Script, family and resource level of languages, to break results down by.

`resources` is the class, from 0 (left behind) to 5 (winners), of Joshi et al., "The State and Fate of Linguistic
Diversity and Inclusion in the NLP World" (ACL 2020, arXiv 2004.09095; https://microsoft.github.io/linguisticdiversity).
Script: the one in which the data sets here write the language (ISO 15924's English names; Chinese is Han, Japanese its
mixed script). `iso639_3`: the language's codes of three letters, that of a macrolanguage and of the one in it that data
sets mean by it. Family: the top-level families of WALS (https://wals.info), "isolate" where there is none.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

UNKNOWN = "unknown"


@dataclass(frozen=True)
class LanguageFacts:
    """One language; "unknown" in a language that the table lacks."""

    code: str
    name: str
    script: str
    family: str
    resources: str


def language_facts(code: str) -> LanguageFacts:
    """The facts of a language, by its ISO 639-1 or ISO 639-3 code; tags of region and script are ignored."""
    return _table().get(code.split("-")[0].split("_")[0].lower(), LanguageFacts(code, code, *[UNKNOWN] * 3))


@cache
def _table() -> dict[str, LanguageFacts]:
    with (files("hybatch.reporting.comparison") / "language_facts.csv").open(encoding="utf-8") as file:
        return {
            code: LanguageFacts(**row)
            for row in csv.DictReader(file)
            for code in (row["code"], *row.pop("iso639_3").split())
        }
