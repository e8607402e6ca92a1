"""Results that reports read: whatever is wrong in them is named, and whatever passes makes a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.cli import main
from hybatch.errors import UserError
from hybatch.evaluation.results import read_any_results
from hybatch.reporting.figures.heatmaps import draw_heatmap
from hybatch.reporting.results import LanguageResults, PairResults, Results, read_results, results_from
from hybatch.reporting.tables.bias import bias_tables, metric_tables
from hybatch.reporting.tables.by_language import language_tables
from hybatch.reporting.tables.measured import Measured
from hybatch.reporting.tables.pairs import report_tables
from hybatch.reporting.tables.render import csv_text, latex, markdown
from tests.reporting.mutations import mutated, read_or_named
from tests.reporting.synthetic import make_results, with_bias

BEFORE = Path(__file__).parent.parent / "written_before" / "results"


def _texts(results: Results) -> list[str]:
    if isinstance(results, LanguageResults):
        tables = language_tables([Measured(results.model, results)])
    else:
        draw_heatmap(results)
        pairs = [Measured(results.model, results)]
        tables = [*report_tables(pairs), *bias_tables(pairs), *metric_tables(pairs)]
    return [form(table) for table in tables for form in (csv_text, latex, markdown)]


@pytest.mark.parametrize("name", ["one", "sentences"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_value_is_named_or_makes_tables(name: str, data: st.DataObject) -> None:
    before = read_any_results(BEFORE / name / "results.json")
    value, keys = data.draw(mutated(with_bias(before) if "pairs" in before else before))
    results = read_or_named(lambda: results_from(value, "some/results.json"), "some/results.json: ", keys)
    for text in _texts(results) if results else ():
        text.encode("utf-8")
        assert "\x00" not in text


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (["pairs", "de", "en", "map"], "0.5", "'pairs.de.en.map' is '0.5'; expected a finite number or null"),
        (["pairs", "de", "en", "map"], float("nan"), "'pairs.de.en.map' is nan"),
        (["pairs", "de", "en"], [0.5], "'pairs.de.en' is [0.5]; expected an object"),
        (["pairs"], None, "'pairs' is None; expected an object"),
        (["multilingual", "zh", "rank_distance"], [], "'multilingual.zh.rank_distance' is []"),
        (["multilingual", "zh"], 1, "'multilingual.zh' is 1; expected an object"),
        (["summary", "monolingual", "map"], 10**400, "'summary.monolingual.map' is 1000"),
        (["summary", "cross_lingual"], "none", "'summary.cross_lingual' is 'none'; expected an object"),
        (["summary"], [], "'summary' is []; expected an object"),
        (["languages"], "ar de", "'languages' is 'ar de'; expected a list of texts"),
        (["languages"], ["ar", "ar"], "expected a list of texts, each once"),
        (["languages"], ["ar", 5], "'languages' is ['ar', 5]; expected a list, each a text"),
        (["languages"], [], "'languages' is []; expected at least one language"),
        (["task"], 7, "'task' is 7; expected a text"),
        (["model"], {"name": "m"}, "'model' is {'name': 'm'}; expected a text"),
        (["model"], "a\nb", "expected a text without control characters"),
        (["num_queries"], {"ar": "6"}, "'num_queries' is {'ar': '6'}; expected an object of values"),
        (["versions"], ["torch 2"], "'versions' is ['torch 2']; expected an object"),
        (["backend"], 3, "'backend' is 3; expected a text"),
        (["top_languages"], {"top": 1}, "'top_languages.top' is 1; expected an object"),
        (
            ["language_bias", "pivot"],
            "xx",
            "'language_bias.pivot' is 'xx'; expected one of ar de en es hi vi zh",
        ),
        (["language_bias", "pivot"], None, "'language_bias.bilingual.ar' should not be there"),
        (["language_bias", "bilingual", "de"], 1, "'language_bias.bilingual.de' is 1; expected an object"),
        (
            ["language_bias", "first", "de"],
            {"de": "1"},
            "'language_bias.first.de' is {'de': '1'}; expected an",
        ),
        (["language_bias", "summary", "multilingual"], {"last_rank": "1"}, "'language_bias.summary.multilingual.last"),
    ],
)
def test_a_wrong_value_ends_with_code_2_and_names_file_and_key(
    keys: list[str], value: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = with_bias(make_results("model"))
    place = results
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    assert main(["report", str(path), "--output", str(tmp_path / "report")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ")
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    results = make_results("model")
    del results["pairs"]["de"]["en"]["map"]
    with pytest.raises(UserError, match=r"r: 'pairs\.de\.en\.map' is missing; evaluate again"):
        results_from(results, "r")
    results = make_results("model")
    results["pairs"]["de"]["xx"] = {"map": 0.5}
    with pytest.raises(UserError, match=r"r: 'pairs\.de\.xx' should not be there"):
        results_from(results, "r")


@pytest.mark.parametrize("text", ["[" * 100_000, "", "{", "[]", '"x"'])
def test_what_is_no_object_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=r"results\.json: "):
        read_results(tmp_path / "results.json")


def test_numbers_stand_as_they_were_written() -> None:
    value = read_any_results(BEFORE / "one" / "results.json")
    results = results_from(value, "r")
    assert isinstance(results, PairResults)
    assert {x: dict(row) for x, row in results.pairs.items()} == value["pairs"]
    assert dict(results.multilingual) == value["multilingual"]
    assert json.dumps(results.pairs["de"]) == json.dumps(value["pairs"]["de"])
