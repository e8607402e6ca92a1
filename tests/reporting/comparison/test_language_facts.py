"""Every language of the tasks with language settings has its facts."""

from __future__ import annotations

import csv
from importlib.resources import files

import pytest

from hybatch.evaluation.tasks.lareqa import LANGUAGES
from hybatch.evaluation.tasks.tatoeba import XTREME_LANGUAGES
from hybatch.reporting.comparison.language_facts import UNKNOWN, language_facts


@pytest.mark.parametrize("code", sorted({code for listed in LANGUAGES.values() for code in listed}))
def test_the_languages_of_lareqa_are_in_the_table(code: str) -> None:
    facts = language_facts(code)
    assert UNKNOWN not in (facts.script, facts.family, facts.resources)


def test_every_row_is_whole_and_stands_once() -> None:
    with (files("hybatch.reporting.comparison") / "language_facts.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["code"] for row in rows] == sorted({row["code"] for row in rows})
    for row in rows:
        assert all(row.values())
        assert row["resources"] in set("012345")


def test_codes_of_three_letters_mean_the_same_language_and_no_two() -> None:
    assert language_facts("deu") == language_facts("deu_Latn") == language_facts("de")
    assert language_facts("cmn") == language_facts("zho") == language_facts("zh")
    with (files("hybatch.reporting.comparison") / "language_facts.csv").open(encoding="utf-8") as file:
        codes = [code for row in csv.DictReader(file) for code in {row["code"], *row["iso639_3"].split()}]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("code", XTREME_LANGUAGES)
def test_the_languages_that_xtreme_takes_of_tatoeba_are_in_the_table(code: str) -> None:
    assert language_facts(code).resources != UNKNOWN


def test_region_and_script_tags_are_ignored() -> None:
    assert language_facts("zh-CN") == language_facts("zh_Hans") == language_facts("zh")


def test_a_language_that_the_table_lacks_is_unknown_not_an_error() -> None:
    facts = language_facts("xx")
    assert (facts.code, facts.script, facts.family, facts.resources) == ("xx", UNKNOWN, UNKNOWN, UNKNOWN)
