"""What read_squad_file finds in good files and says about bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybatch.corpus.formats.squad import read_squad_file
from hybatch.errors import UserError

XQUAD_R_CANDIDATES = {
    "ar": 1222, "de": 1276, "el": 1234, "en": 1180, "es": 1215, "hi": 1244,
    "ru": 1219, "th": 852, "tr": 1167, "vi": 1209, "zh": 1196,
}  # fmt: skip
MLQA_R_QUERIES = {"ar": 517, "de": 512, "en": 1148, "es": 500, "hi": 507, "vi": 511, "zh": 504}
MLQA_R_CANDIDATES = {"ar": 2545, "de": 2362, "en": 6264, "es": 1787, "hi": 2426, "vi": 2828, "zh": 2322}


def squad_document(**changes: Any) -> dict[str, Any]:
    paragraph = {
        "context": "Größe zählt.  Ja 😀 doch.",
        "sentences": ["Größe zählt.", "Ja 😀 doch."],
        "sentence_breaks": [[0, 12], [14, 24]],
        "qas": [
            {"id": "a", "question": "Was zählt?", "answers": [{"text": "Größe", "answer_start": 0}]},
            {"id": "b", "question": "Was noch?", "answers": [{"text": "doch", "answer_start": 19}]},
        ],
    }
    paragraph.update(changes)
    return {
        "data": [{"title": "t", "paragraphs": [{"context": "Vorher.", "qas": []} | sentences_of("Vorher."), paragraph]}]
    }


def sentences_of(text: str) -> dict[str, Any]:
    return {"sentences": [text], "sentence_breaks": [[0, len(text)]]}


def write(folder: Path, document: Any) -> Path:
    path = folder / "de.json"
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.mark.data
def test_xquad_r_has_the_published_counts(data_dir: Path) -> None:
    files = {path.stem: read_squad_file(path) for path in (data_dir / "xquad-r").glob("*.json")}
    assert {language: len(file.sentences) for language, file in files.items()} == XQUAD_R_CANDIDATES
    assert {len(file.questions) for file in files.values()} == {1190}


@pytest.mark.data
def test_mlqa_r_has_the_published_counts(data_dir: Path) -> None:
    files = {path.stem: read_squad_file(path) for path in (data_dir / "mlqa-r").glob("*.json")}
    assert {language: len(file.questions) for language, file in files.items()} == MLQA_R_QUERIES
    assert {language: len(file.sentences) for language, file in files.items()} == MLQA_R_CANDIDATES


def test_a_question_gets_the_sentence_that_holds_the_first_character_of_its_answer(tmp_path: Path) -> None:
    file = read_squad_file(write(tmp_path, squad_document()))
    assert file.language == "de"
    assert [file.sentences[question.sentence or 0] for question in file.questions] == ["Größe zählt.", "Ja 😀 doch."]
    assert [file.paragraphs[question.paragraph] for question in file.questions] == ["Größe zählt.  Ja 😀 doch."] * 2


def test_a_plain_squad_file_has_paragraphs_and_no_sentences(tmp_path: Path) -> None:
    document = squad_document()
    for paragraph in document["data"][0]["paragraphs"]:
        del paragraph["sentences"], paragraph["sentence_breaks"]
    file = read_squad_file(write(tmp_path, document))
    assert file.sentences == ()
    assert [question.sentence for question in file.questions] == [None, None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": " "}, "'context' is empty"),
        ({"sentences": ["Größe zählt."]}, "1 sentences but 2 sentence_breaks"),
        ({"sentences": ["Größe zählt", "Ja 😀 doch."]}, r"sentences\[0\] has 11 characters"),
        ({"sentence_breaks": [[0, 12], [14, 99]]}, r"sentence_breaks\[1\] is \[14, 99\]"),
        ({"qas": [{"id": "a", "question": "?", "answers": [{"answer_start": 24}]}]}, "answer_start 24 is outside"),
        ({"qas": [{"id": "a", "question": "?", "answers": [{"answer_start": 13}]}]}, "in none of the paragraph's"),
        ({"qas": [{"id": "a", "question": "", "answers": [{"answer_start": 1}]}]}, r"\(id a\): 'question' is empty"),
        ({"qas": [{"id": "a", "question": "?", "answers": []}]}, "no answer"),
        ({"qas": [{"id": "a", "question": "?", "answers": [{"answer_start": 1}]}] * 2}, "stands twice"),
        ({"qas": None}, "expected a list under 'qas'"),
    ],
)
def test_a_bad_paragraph_is_named_with_its_place_in_the_file(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, squad_document(**changes))
    with pytest.raises(UserError, match=message) as caught:
        read_squad_file(path)
    assert str(caught.value).startswith(f"{path}: data[0].paragraphs[1]")


def test_malformed_json_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "de.json"
    path.write_text('{"data": [\n{"paragraphs": ]}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"de\.json:2: malformed JSON"):
        read_squad_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"de\.json: cannot be read"):
        read_squad_file(tmp_path / "de.json")
