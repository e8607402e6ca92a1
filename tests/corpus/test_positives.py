"""Rows that list several positives: what they are in each language, whose group they are of, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from hybatch.corpus import ParallelCorpus
from hybatch.errors import UserError
from tests.corpus.layouts import opened, write_jsonl

ROWS: dict[str, list[dict[str, Any]]] = {
    "en": [
        {
            "id": "a",
            "question": "1?",
            "passage": "A",
            "positives": ["A2", {"text": "A", "score": 3}],
            "negatives": ["B2"],
        },
        {"id": "b", "question": "2?", "positives": ["B", {"text": "B2", "score": 0.5}]},
        {"id": "c", "question": "3?", "passage": "C", "negatives": ["A2", "nowhere"]},
    ],
    "de": [
        {"id": "a", "question": "1?", "passage": "Ä"},
        {"id": "b", "passage": "Beh", "positives": ["Beh zwei"]},
    ],
}
BY_ID: dict[str, list[dict[str, Any]]] = {
    "en": [
        {"id": "q", "question": "?", "positives": [{"passage_id": "x", "score": 2}, {"passage_id": "y"}]},
        {"id": "x", "passage": "X", "passage_id": "x"},
        {"id": "z", "question": "!", "passage": "Z", "passage_id": "z"},
        {"id": "o", "question": "o", "passage": "O", "passage_id": "x"},
    ],
    "de": [
        {"id": "x", "passage": "Iks", "passage_id": "x"},
        {"id": "y", "passage": "Ypsilon", "passage_id": "y"},
    ],
}


def _positives(corpus: ParallelCorpus, identifier: str, language: str) -> list[tuple[str, float]]:
    example, place = corpus.ids(slice(None)).index(identifier), corpus.languages.index(language)
    (listed,) = corpus.positives([example], [place])
    assert corpus.positive_counts([example], [place]).tolist() == [len(listed)]
    return listed


def _groups(corpus: ParallelCorpus) -> dict[str, int]:
    return dict(zip(corpus.ids(slice(None)), corpus.passage_groups(slice(None)).tolist(), strict=True))


def test_a_row_has_its_passage_first_and_then_the_texts_it_lists(tmp_path: Path) -> None:
    corpus = opened(write_jsonl(tmp_path / "c", ROWS), tmp_path)
    assert corpus.has_positives
    assert _positives(corpus, "a", "en") == [("A", 3.0), ("A2", 1.0)]
    assert _positives(corpus, "a", "de") == [("Ä", 1.0)]
    assert _positives(corpus, "b", "en") == [("B", 1.0), ("B2", 0.5)]
    assert _positives(corpus, "b", "de") == [("Beh", 1.0), ("Beh zwei", 1.0)]
    assert _positives(corpus, "c", "en") == [("C", 1.0)]
    several = corpus.positives([2, 0, 1, 0], [1, 1, 0, 0])
    assert [len(listed) for listed in several] == [1, 2, 2, 1]


def test_an_id_stands_for_a_passage_in_every_language_that_has_it(tmp_path: Path) -> None:
    corpus = opened(write_jsonl(tmp_path / "c", BY_ID), tmp_path)
    assert _positives(corpus, "q", "de") == [("Iks", 2.0), ("Ypsilon", 1.0)]
    assert _positives(corpus, "q", "en") == [("X", 2.0)]
    assert _positives(corpus, "z", "en") == [("Z", 1.0)]
    question = corpus.ids(slice(None)).index("q")
    assert corpus.passage_mask([question]).tolist() == [0b11]
    assert corpus.passages([question], [0]) == ["Iks"]
    with pytest.raises(ValueError, match="has no passage in de"):
        corpus.positives([corpus.ids(slice(None)).index("z")], [0])


def test_a_passage_listed_by_text_and_by_id_counts_once(tmp_path: Path) -> None:
    rows = {
        "en": [
            {
                "id": "q",
                "question": "?",
                "positives": [{"text": "X", "passage_id": "x"}, {"text": "Y", "passage_id": "y"}],
            },
            {"id": "y", "passage": "Y", "passage_id": "y"},
        ],
        "de": [{"id": "q", "question": "?", "positives": [{"passage_id": "y", "score": 4}, {"passage_id": "x"}]}],
    }
    corpus = opened(write_jsonl(tmp_path / "c", rows), tmp_path)
    assert _positives(corpus, "q", "en") == [("X", 1.0), ("Y", 1.0)]
    assert corpus.passage_mask([corpus.ids(slice(None)).index("q")]).tolist() == [0b10]


def test_all_positives_of_an_example_and_whatever_repeats_one_are_of_its_group(tmp_path: Path) -> None:
    rows = ROWS["en"] + [{"id": "d", "question": "4?", "passage": "A2"}, {"id": "e", "question": "5?", "passage": "E"}]
    groups = _groups(opened(write_jsonl(tmp_path / "c", {"en": rows}), tmp_path))
    assert groups["a"] == groups["d"]
    assert len({groups[name] for name in "abce"}) == 4
    by_id = _groups(opened(write_jsonl(tmp_path / "ids", BY_ID), tmp_path))
    assert by_id["q"] == by_id["x"] == by_id["y"] == by_id["o"] != by_id["z"]


def test_a_hard_negative_that_is_another_examples_positive_is_told_its_group(tmp_path: Path) -> None:
    corpus = opened(write_jsonl(tmp_path / "c", ROWS), tmp_path)
    groups, ids = _groups(corpus), corpus.ids(slice(None))
    a, c = ids.index("a"), ids.index("c")
    assert corpus.hard_negative_groups([a, c], [1, 1]) == [[groups["b"]], [groups["a"], -1]]


def test_a_corpus_without_positives_has_the_index_it_always_had(tmp_path: Path) -> None:
    rows = [{"id": "a", "question": "?", "passage": "A"}, {"id": "b", "question": "!", "passage": "B"}]
    corpus = opened(write_jsonl(tmp_path / "c", {"en": rows}), tmp_path)
    assert not corpus.has_positives
    assert corpus.fingerprint == "e9d2c01a6a48e8f91dd1f36510281632"
    assert corpus.positives([1], [0]) == [[("B", 1.0)]]


@pytest.mark.parametrize("with_scores", [True, False])
def test_columns_of_a_data_set_list_positives_too(tmp_path: Path, with_scores: bool) -> None:
    listed = [{"text": "A2", "score": 2.0}, {"text": "A3", "score": None}] if with_scores else ["A2", "A3"]
    rows = {"id": ["a", "b"], "question": ["1?", "2?"], "passage": ["A", "B"], "answers": [listed, None]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "d")
    columns = {"positives": "answers"}
    corpus = opened(tmp_path / "d", tmp_path, format="datasets", languages=["en"], columns=columns)
    assert _positives(corpus, "a", "en") == [("A", 1.0), ("A2", 2.0 if with_scores else 1.0), ("A3", 1.0)]
    assert _positives(corpus, "b", "en") == [("B", 1.0)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positives": []}, "positives is an empty list"),
        ({"positives": "A"}, "positives is 'A'; expected a list"),
        ({"positives": [3]}, "positives holds 3"),
        ({"positives": [""]}, "a positive's text is ''"),
        ({"positives": [{"score": 1}]}, "neither text nor passage_id"),
        ({"positives": [{"passage_id": 7}]}, "a positive's passage_id is 7"),
        ({"positives": [{"text": "P", "language": "de"}]}, "'language', which is none of text, passage_id, score"),
        ({"positives": ["P", "P"]}, "lists the text 'P' twice"),
        ({"positives": ["N"], "negatives": ["N"]}, "'N' stands under positives and under negatives"),
        ({"positives": [{"passage_id": "gone"}]}, "names a passage_id that no passage of the corpus has"),
        *(
            ({"positives": [{"text": "P", "score": score}]}, "a positive's score is .*; give a number greater than 0")
            for score in (0, -1, True, "2", float("nan"), float("inf"), 10**400)
        ),
    ],
)
def test_a_bad_list_is_refused_with_file_and_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    rows = [{"id": "a", "question": "?", "passage": "A"}, {"id": "b", "question": "!", "passage": "B"} | changes]
    with pytest.raises(UserError, match=rf"en\.jsonl:2: .*{message}"):
        opened(write_jsonl(tmp_path / "c", {"en": rows}), tmp_path)


def test_half_a_character_in_a_positive_is_found(tmp_path: Path) -> None:
    row = {"id": "a", "question": "?", "passage": "A", "positives": ["\ud800"]}
    (tmp_path / "en.jsonl").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(UserError, match=r"en\.jsonl:1: a text holds half a surrogate pair"):
        opened(tmp_path, tmp_path / "cache")


def test_positives_are_read_in_any_order_of_examples_and_languages(tmp_path: Path) -> None:
    corpus = opened(write_jsonl(tmp_path / "c", ROWS), tmp_path)
    pairs = [
        (e, k)
        for k in range(2)
        for e in np.flatnonzero(corpus.passage_mask(slice(None)) >> np.uint64(k) & np.uint64(1))
    ]
    examples, languages = zip(*reversed(pairs), strict=True)
    alone = [corpus.positives([e], [k])[0] for e, k in zip(examples, languages, strict=True)]
    assert corpus.positives(list(examples), list(languages)) == alone
