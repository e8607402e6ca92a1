"""XQuAD-R and MLQA-R: counts of the real files, and what is said about files that are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.tasks.lareqa import load_lareqa, squad_task

XQUAD_CANDIDATES = {
    "ar": 1222,
    "de": 1276,
    "el": 1234,
    "en": 1180,
    "es": 1215,
    "hi": 1244,
    "ru": 1219,
    "th": 852,
    "tr": 1167,
    "vi": 1209,
    "zh": 1196,
}
MLQA_QUERIES = {"ar": 517, "de": 512, "en": 1148, "es": 500, "hi": 507, "vi": 511, "zh": 504}
MLQA_CANDIDATES = {"ar": 2545, "de": 2362, "en": 6264, "es": 1787, "hi": 2426, "vi": 2828, "zh": 2322}


def write_squad(path: Path, paragraphs: list[tuple[list[str], list[tuple[str, int]]]]) -> None:
    """A file in LAReQA's form: per paragraph its sentences, and (question id, sentence that answers)."""
    written = []
    for sentences, questions in paragraphs:
        starts = [sum(len(s) + 1 for s in sentences[:i]) for i in range(len(sentences))]
        written.append(
            {
                "context": " ".join(sentences),
                "sentences": sentences,
                "sentence_breaks": [[b, b + len(s)] for b, s in zip(starts, sentences, strict=True)],
                "qas": [
                    {"id": i, "question": f"{i}?", "answers": [{"text": "x", "answer_start": starts[s]}]}
                    for i, s in questions
                ],
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"data": [{"paragraphs": written}]}), encoding="utf-8")


@pytest.mark.data
def test_xquad_r_has_its_published_counts_and_a_positive_in_every_language(data_dir: Path) -> None:
    task = load_task("xquad-r", data_dir)
    assert {x: len(texts) for x, texts in task.candidates.items()} == XQUAD_CANDIDATES
    assert {len(texts) for texts in task.queries.values()} == {1190}
    groups = task.candidate_groups()
    for rows in task.positives.values():
        assert all(groups[row].tolist() == list(range(11)) for row in rows)


@pytest.mark.data
def test_mlqa_r_has_its_published_counts_and_positives_in_two_to_four_languages(data_dir: Path) -> None:
    task = load_task("mlqa-r", data_dir)
    assert {x: len(texts) for x, texts in task.queries.items()} == MLQA_QUERIES
    assert {x: len(texts) for x, texts in task.candidates.items()} == MLQA_CANDIDATES
    groups = task.candidate_groups()
    for own, language in enumerate(task.languages):
        for row in task.positives[language]:
            assert len(set(groups[row])) == len(row)
            assert 2 <= len(row) <= 4
            assert own in groups[row]


@pytest.mark.data
def test_languages_restrict_queries_and_candidates_alike(data_dir: Path) -> None:
    task = load_task("mlqa-r", data_dir, ["zh", "de"])
    assert task.languages == ("de", "zh")
    assert task.num_candidates == 2362 + 2322


def test_positives_join_by_question_id_and_sentences_keep_their_order_and_duplicates(tmp_path: Path) -> None:
    write_squad(tmp_path / "aa.json", [(["Same.", "Other."], [("1", 1)]), (["Same."], [("2", 0)])])
    write_squad(tmp_path / "bb.json", [(["B one.", "B two."], [("2", 0), ("1", 0)])])
    task = squad_task("t", [tmp_path / "bb.json", tmp_path / "aa.json"])
    assert task.candidates["aa"] == ["Same.", "Other.", "Same."]
    assert task.queries["bb"] == ["2?", "1?"]
    assert task.positives == {"aa": [[1, 3], [2, 3]], "bb": [[2, 3], [1, 3]]}


def test_a_missing_language_file_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"xquad-r/ar\.json.*google-research-datasets/lareqa"):
        load_lareqa("xquad-r", tmp_path)


def test_squad_files_without_sentences_are_refused(tmp_path: Path) -> None:
    paragraph = {
        "context": "A b.",
        "qas": [{"id": "1", "question": "q", "answers": [{"text": "A", "answer_start": 0}]}],
    }
    (tmp_path / "aa.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    with pytest.raises(UserError, match=r"aa\.json.*no `sentences`"):
        squad_task("t", [tmp_path / "aa.json"])
