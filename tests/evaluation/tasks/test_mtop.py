"""MTOP in its publisher's layout, as retrieval and as a probe."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.command import evaluate
from tests.evaluation.collection.fakes import write_lines

WEATHER, ALARM = "IN:GET_WEATHER", "IN:CREATE_ALARM"


def _line(number: int, intent: str, utterance: str, locale: str) -> str:
    tokens = '{"tokens": [], "tokenSpans": [], "tokenizerType": "XLU_MLGen_V1"}'
    return "\t".join([str(number), intent, "", utterance, "domain", locale, f"[{intent} ]", tokens])


def write_mtop(data_dir: Path) -> Path:
    """English and German; "alarm" words tell the intents apart."""
    texts = {
        ("en", "train"): [(WEATHER, f"weather rain {i}") for i in range(5)]
        + [(ALARM, f"alarm wake {i}") for i in range(5)],
        ("en", "eval"): [(ALARM, "alarm at five"), (WEATHER, "is it raining")],
        ("en", "test"): [(ALARM, "alarm wake 9"), (WEATHER, "weather rain 9"), (ALARM, "alarm wake 8")],
        ("de", "eval"): [(WEATHER, "regnet es"), ("IN:OTHER", "anderes")],
        ("de", "test"): [(WEATHER, "weather rain 7"), ("IN:UNSEEN", "alarm wake 7")],
    }
    for (language, split), rows in texts.items():
        lines = [_line(i, intent, text, f"{language}_XX") for i, (intent, text) in enumerate(rows)]
        write_lines(data_dir / "mtop" / language / f"{split}.txt", lines)
    return data_dir


def test_utterances_of_one_intent_are_positives_in_every_language(tmp_path: Path) -> None:
    task = load_task("mtop", write_mtop(tmp_path), ["de", "en"])
    assert task.candidates == {"de": ["regnet es", "anderes"], "en": ["alarm at five", "is it raining"]}
    assert task.positives == {"de": [[0, 3], []], "en": [[2], [0, 3], [2]]}


def test_the_probe_learns_english_and_is_tested_on_all_from_saved_embeddings_too(model: Path, tmp_path: Path) -> None:
    arguments = ["--task", "mtop-intent", "--data-dir", str(write_mtop(tmp_path)), "--languages", "de", "en"]
    saved = tmp_path / "saved"
    results = evaluate([*arguments, "--model", str(model), "--save-embeddings", str(saved)]).results
    assert results["figures"]["en"] == {"accuracy": 1.0, "num_queries": 3}
    assert results["figures"]["de"] == {"accuracy": 0.5, "num_queries": 2}
    assert results["num_candidates"] == {"en": 10}
    assert sorted(path.name for path in saved.iterdir()) == ["candidates.en.npy", "queries.de.npy", "queries.en.npy"]
    again = evaluate([*arguments, "--embeddings", str(saved)]).results
    assert {**again, "model": ""} == {**results, "model": ""}


def test_the_command_scores_retrieval_in_every_setting(model: Path, tmp_path: Path) -> None:
    arguments = ["--task", "mtop", "--data-dir", str(write_mtop(tmp_path)), "--languages", "de", "en"]
    results = evaluate([*arguments, "--model", str(model)]).results
    assert results["pairs"]["de"]["en"]["num_queries"] == 1
    assert results["pairs"]["de"]["en"]["num_skipped"] == 1


def test_a_line_of_other_columns_is_named(tmp_path: Path) -> None:
    write_lines(write_mtop(tmp_path) / "mtop" / "de" / "eval.txt", ["1\tIN:X\tutterance"])
    with pytest.raises(UserError, match=r"eval\.txt:1: 3 columns; expected id, intent"):
        load_task("mtop", tmp_path, ["de", "en"])
