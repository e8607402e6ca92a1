"""Reports and comparisons name the removal of language bias that a result was measured after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.reporting.inputs import read_inputs
from hybatch.reporting.removal import removal_words
from hybatch.reporting.results import results_from
from tests.reporting.synthetic import checked, make_results

DEBIAS: dict[str, Any] = {
    "method": "lir",
    "options": {"directions": 10},
    "model": "runs/hybrid/final",
    "corpora": [{"name": "flores", "fingerprint": "a"}, {"name": "bible", "fingerprint": "b"}],
    "languages": ["ar", "de", "en"],
}


def test_options_that_are_set_are_named_with_method_corpora_and_languages() -> None:
    assert removal_words(DEBIAS) == "debiased by lir (directions 10) on flores and bible in 3 languages"
    centred = DEBIAS | {"method": "centre", "options": {"put_back": True}}
    assert removal_words(centred) == "debiased by centre (put back) on flores and bible in 3 languages"
    assert removal_words(centred | {"options": {"put_back": False}}).startswith("debiased by centre on flores")


def test_a_result_is_called_by_its_method_and_trained_where_its_model_was(tmp_path: Path) -> None:
    results = make_results("runs/hybrid/without") | {"debias": DEBIAS}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (measured,) = read_inputs([str(tmp_path)]).measured
    assert measured.label == "without, lir"
    assert measured.results.trained_model == "runs/hybrid/final"
    assert measured.results.described_model == (
        "runs/hybrid/without, debiased by lir (directions 10) on flores and bible in 3 languages"
    )
    (named,) = read_inputs([f"ours={tmp_path}"]).measured
    assert named.label == "ours"


def test_a_result_under_other_prefixes_than_the_model_s_own_says_which() -> None:
    results = checked(make_results("runs/a") | {"prefixes": {"query": "Instruct: find\nQuery: ", "passage": ""}})
    assert results.described_model == "runs/a, passage prefix '', query prefix 'Instruct: find\\nQuery: '"


def test_a_result_without_removal_is_called_as_before() -> None:
    results = checked(make_results("runs/a"))
    assert (results.described_model, results.trained_model, results.marked("a")) == ("runs/a", "runs/a", "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": 3}, "'debias.method' is 3; expected a text"),
        ({"corpora": ["flores"]}, "'debias.corpora' is .*; expected a list of corpora, each with a name"),
        ({"options": None}, "'debias.options' is None; expected an object"),
    ],
)
def test_what_is_wrong_in_it_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        results_from(make_results("a") | {"debias": DEBIAS | change}, "results.json")
