"""XOR-Retrieve in its publisher's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.command import evaluate
from tests.evaluation.collection.fakes import fake, write_lines

PASSAGES = fake().passages


def write_xor(data_dir: Path, questions: list[dict[str, Any]]) -> Path:
    """Questions, and passages as a table whose texts are quoted."""
    folder = data_dir / "xor-retrieve"
    write_lines(folder / "xor_dev_retrieve_eng_span_v1_1.jsonl", questions)
    rows = [f'{i + 1}\t"{text} ""quoted"""\tTitle' for i, text in enumerate(PASSAGES.values())]
    write_lines(folder / "enwiki_20190201_w100.tsv", ["id\ttext\ttitle", *rows])
    return data_dir


def _question(number: int, language: str, answers: Any) -> dict[str, Any]:
    return {"id": str(number), "question": f"amber {number}?", "lang": language, "answers": answers, "split": "dev"}


def test_answers_are_looked_for_in_the_texts_retrieved(model: Path, tmp_path: Path) -> None:
    questions = [
        _question(1, "ja", [next(iter(PASSAGES.values()))]),
        _question(2, "ja", ["nowhere"]),
        _question(3, "ja", ["Title"]),
        _question(4, "ja", ["yes"]),
        _question(5, "ar", ["quoted"]),
    ]
    write_xor(tmp_path, questions)
    task = load_task("xor-retrieve", tmp_path, ["ar", "ja"])
    assert task.collections["enwiki"].read_some([0])[0].text.endswith(' "quoted"')
    arguments = ["--task", "xor-retrieve", "--data-dir", str(tmp_path), "--model", str(model)]
    results = evaluate([*arguments, "--languages", "ar", "ja"]).results
    assert results["figures"] == {
        "ar": {"recall@2kt": 1.0, "recall@5kt": 1.0, "num_queries": 1, "num_skipped": 0},
        "ja": {"recall@2kt": 1 / 3, "recall@5kt": 1 / 3, "num_queries": 3, "num_skipped": 1},
    }
    assert results["summary"]["mean"]["recall@2kt"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([_question(1, "ja", ["a"]), _question(1, "ja", ["a"])], ":2: question id '1' stands in line 1 too"),
        ([_question(1, "ja", None)], "field 'answers' is None"),
        ([_question(1, "ar", ["a"])], "no question in ja"),
    ],
)
def test_questions_that_cannot_be_used_are_refused(
    tmp_path: Path, questions: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_task("xor-retrieve", write_xor(tmp_path, questions), ["ja"])


def test_a_passage_of_another_number_of_columns_is_named(tmp_path: Path) -> None:
    write_xor(tmp_path, [_question(1, "ja", ["a"])])
    with open(tmp_path / "xor-retrieve" / "enwiki_20190201_w100.tsv", "a", encoding="utf-8") as file:
        file.write("61\ttext\n")
    with pytest.raises(UserError, match=r"enwiki_20190201_w100\.tsv:62: 2 columns"):
        load_task("xor-retrieve", tmp_path, ["ja"])
