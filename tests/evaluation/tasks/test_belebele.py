"""Belebele in its publisher's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.command import evaluate
from tests.evaluation.collection.fakes import write_lines


def _row(link: str, number: int, passage: str, question: str, answer: int = 1) -> dict[str, Any]:
    fields = {f"mc_answer{i}": "?" for i in range(1, 5)}
    return {
        "link": link,
        "question_number": number,
        "flores_passage": passage,
        "question": question,
        **fields,
        "correct_answer_num": str(answer),
        "dialect": "xxx",
        "ds": "2023-05-03",
    }


def write_belebele(data_dir: Path, **changed: list[dict[str, Any]]) -> Path:
    """Three passages in two languages, in another order; two of them share a link."""
    english = [
        _row("l/1", 1, "P one", "q1?"),
        _row("l/1", 2, "P one", "q2?", 2),
        _row("l/2", 1, "P two", "q3?", 3),
        _row("l/2", 1, "P three", "q4?", 4),
    ]
    german = [
        _row("l/2", 1, "P zwei", "f3?", 3),
        _row("l/2", 1, "P drei", "f4?", 4),
        _row("l/1", 1, "P eins", "f1?"),
        _row("l/1", 2, "P eins", "f2?", 2),
    ]
    for language, rows in ({"eng_Latn": english, "deu_Latn": german} | changed).items():
        write_lines(data_dir / "belebele" / f"{language}.jsonl", rows)
    return data_dir


def test_a_question_belongs_to_its_passage_in_every_language(tmp_path: Path) -> None:
    task = load_task("belebele", write_belebele(tmp_path))
    assert task.languages == ("deu_Latn", "eng_Latn")
    assert task.candidates == {"deu_Latn": ["P zwei", "P drei", "P eins"], "eng_Latn": ["P one", "P two", "P three"]}
    assert task.positives == {
        "deu_Latn": [[0, 4], [1, 5], [2, 3], [2, 3]],
        "eng_Latn": [[2, 3], [2, 3], [0, 4], [1, 5]],
    }


def test_the_command_scores_every_setting(model: Path, tmp_path: Path) -> None:
    results = evaluate(
        ["--task", "belebele", "--data-dir", str(write_belebele(tmp_path)), "--model", str(model)]
    ).results
    assert results["pairs"]["eng_Latn"]["deu_Latn"]["num_queries"] == 4


def test_files_that_do_not_align_are_refused(tmp_path: Path) -> None:
    write_belebele(tmp_path, deu_Latn=[_row("l/1", 1, "P eins", "f1?", 3)])
    with pytest.raises(UserError, match=r"eng_Latn\.jsonl:1: .* answer 1 and .*deu_Latn\.jsonl:1 answer 3"):
        load_task("belebele", tmp_path)


def test_a_row_without_its_passage_is_named(tmp_path: Path) -> None:
    row = _row("l/1", 1, "P", "q?")
    del row["flores_passage"]
    with pytest.raises(UserError, match=r"eng_Latn\.jsonl:1: field 'flores_passage' is missing"):
        load_task("belebele", write_belebele(tmp_path, eng_Latn=[row]))
