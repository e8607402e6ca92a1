"""Tatoeba in LASER's layout."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.command import evaluate
from hybatch.evaluation.results import read_any_results
from hybatch.evaluation.tasks.tatoeba import XTREME_LANGUAGES
from hybatch.reporting.evaluate import main


def write_tatoeba(data_dir: Path, sentences: dict[str, list[tuple[str, str]]]) -> Path:
    """(sentence, translation) per line and language, as LASER's first release has them."""
    folder = data_dir / "tatoeba"
    folder.mkdir(parents=True)
    for language, pairs in sentences.items():
        for side, lines in zip((language, "eng"), zip(*pairs, strict=True), strict=True):
            text = "".join(line + "\n" for line in lines)
            (folder / f"tatoeba.{language}-eng.{side}").write_text(text, encoding="utf-8")
    return data_dir


PAIRS = [("een", "one"), ("twee\u2028 drie", "two three"), ("vier", "four"), ("vyf", "five"), ("ses", "six")]


def test_line_i_translates_line_i_and_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    task = load_task("tatoeba", write_tatoeba(tmp_path, {"nld": PAIRS, "ast": PAIRS[:2]}))
    assert task.languages == ("ast", "nld")
    assert list(zip(task.queries["nld"], task.candidates["nld"], strict=True)) == PAIRS
    assert task.subsets == {"xtreme": ("nld",)}


def test_files_that_differ_in_length_are_refused(tmp_path: Path) -> None:
    write_tatoeba(tmp_path, {"nld": PAIRS})
    with open(tmp_path / "tatoeba" / "tatoeba.nld-eng.eng", "a", encoding="utf-8") as file:
        file.write("seven\n")
    with pytest.raises(UserError, match=r"tatoeba\.nld-eng\.nld: 5 lines, but tatoeba\.nld-eng\.eng has 6"):
        load_task("tatoeba", tmp_path)


def test_text_that_is_not_utf8_is_named_by_line(tmp_path: Path) -> None:
    write_tatoeba(tmp_path, {"nld": PAIRS})
    (tmp_path / "tatoeba" / "tatoeba.nld-eng.nld").write_bytes(b"een\n\xff\n")
    with pytest.raises(UserError, match=r"tatoeba\.nld-eng\.nld:2: not UTF-8"):
        load_task("tatoeba", tmp_path)


def test_a_model_is_scored_and_its_saved_embeddings_give_the_same_figures(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tatoeba(tmp_path / "data", {"nld": [(b, b) for _, b in PAIRS], "ast": PAIRS})
    common = ["--task", "tatoeba", "--data-dir", str(data)]
    saved, output = str(tmp_path / "saved"), tmp_path / "out"
    assert main([*common, "--model", str(model), "--save-embeddings", saved, "--output", str(output)]) == 0
    results = read_any_results(output / "results.json")
    again = evaluate([*common, "--embeddings", saved]).results
    assert {**results, "model": ""} == {**again, "model": ""}
    assert results["figures"]["nld"]["accuracy_to_pivot"] == 1.0
    assert results["summary"]["xtreme"] == {**results["summary"]["xtreme"], "num_languages": 1}
    assert "xtreme (1)" in capsys.readouterr().out


@pytest.mark.data
def test_the_real_files_hold_112_languages_with_all_of_xtreme(data_dir: Path) -> None:
    task = load_task("tatoeba", data_dir)
    assert len(task.languages) == 112
    assert len(task.subsets["xtreme"]) == len(XTREME_LANGUAGES) == 36
    assert sum(len(rows) == 1000 for rows in task.queries.values()) == 72
    assert max(map(len, task.queries.values())) == 1000
    assert all(re.fullmatch("[a-z]{3}", language) for language in task.languages)
    assert task.candidates["cmn"][:1] == ["Let's have a look."]


@pytest.mark.data
def test_real_sentences_of_small_languages_are_scored(data_dir: Path, model: Path) -> None:
    arguments = ["--task", "tatoeba-xtreme", "--data-dir", str(data_dir), "--languages", "jav", "tam"]
    results = evaluate([*arguments, "--model", str(model)]).results
    assert results["num_queries"] == {"jav": 205, "tam": 307}
    assert results["num_candidates"] == results["num_queries"]
    assert all(0 < value < 0.5 for value in results["summary"]["mean"].values() if value != 2)
