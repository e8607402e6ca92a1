"""Small files in the layout of Mr. TyDi and MIRACL."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from hybatch.errors import UserError
from tests.corpus.layouts import contents, opened, write_jsonl


@pytest.fixture(autouse=True)
def _no_network_and_no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


def passage(docid: str, title: str, text: str) -> dict[str, str]:
    return {"docid": docid, "title": title, "text": text}


ROWS: dict[str, list[dict[str, Any]]] = {
    "en": [
        {
            "query_id": "1",
            "query": "Which?",
            "positive_passages": [passage("7#0", "Seven", "This."), passage("9#2", "", "That.")],
            "negative_passages": [passage("8#0", "Eight", "Not."), passage("5#0", "Five", "Those.")],
        },
        {
            "query_id": "2",
            "query": "Who?",
            "positive_passages": [passage("5#0", "Five", "Those.")],
            "negative_passages": [],
        },
    ],
    "sw": [
        {
            "query_id": "1",
            "query": "Nani?",
            "positive_passages": [passage("7#0", "Saba", "Yeye.")],
            "negative_passages": [passage("8#0", "Nane", "Siyo.")],
        }
    ],
}


def test_every_positive_is_an_example_and_languages_have_questions_of_their_own(tmp_path: Path) -> None:
    corpus = opened(write_jsonl(tmp_path / "c", ROWS), tmp_path, format="mrtydi")
    assert contents(corpus) == {
        "en": {
            "en:1#7#0": ("Which?", "Seven This."),
            "en:1#9#2": ("Which?", "That."),
            "en:2#5#0": ("Who?", "Five Those."),
        },
        "sw": {"sw:1#7#0": ("Nani?", "Saba Yeye.")},
    }
    assert corpus.statistics.shared_ids == 0


def test_the_positives_of_one_query_are_one_group_and_negatives_know_theirs(tmp_path: Path) -> None:
    corpus = opened(write_jsonl(tmp_path / "c", ROWS), tmp_path, format="mrtydi")
    assert corpus.passage_groups(slice(None)).tolist() == [0, 0, 1, 2]
    assert corpus.hard_negatives([0, 2, 3], [0, 0, 1]) == [["Eight Not.", "Five Those."], [], ["Nane Siyo."]]
    assert corpus.hard_negative_groups([0, 2, 3], [0, 0, 1]) == [[-1, 1], [], [-1]]


def test_a_query_has_all_of_its_positives_together_where_that_is_asked_for(tmp_path: Path) -> None:
    corpus = opened(write_jsonl(tmp_path / "c", ROWS), tmp_path, format="mrtydi", positives="together")
    assert corpus.ids(slice(None)) == ["en:1", "en:2", "sw:1"]
    assert corpus.positives([0, 1, 2], [0, 0, 1]) == [
        [("Seven This.", 1.0), ("That.", 1.0)],
        [("Five Those.", 1.0)],
        [("Saba Yeye.", 1.0)],
    ]
    assert corpus.hard_negative_groups([0], [0]) == [[-1, int(corpus.passage_groups([1])[0])]]


def test_a_passage_that_two_queries_share_joins_them_and_what_is_listed_twice_counts_once(tmp_path: Path) -> None:
    first, second, third = (passage(f"{n}#0", "", text) for n, text in enumerate(("One.", "Two.", "Three.")))
    rows = [
        {"query_id": "1", "query": "a?", "positive_passages": [first, second, first], "negative_passages": [second]},
        {"query_id": "2", "query": "b?", "positive_passages": [second, third], "negative_passages": []},
    ]
    corpus = opened(write_jsonl(tmp_path / "c", {"en": rows}), tmp_path, format="mrtydi", positives="together")
    assert corpus.passage_groups(slice(None)).tolist() == [0, 0]
    assert corpus.positives([0, 1], [0, 0]) == [[("One.", 1.0), ("Two.", 1.0)], [("Two.", 1.0), ("Three.", 1.0)]]
    assert not corpus.has_hard_negatives


def test_queries_of_one_positive_have_none_beside_it(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "c", {"en": ROWS["en"][1:], "sw": ROWS["sw"]})
    corpus = opened(folder, tmp_path, format="mrtydi", positives="together")
    assert not corpus.has_positives
    assert corpus.passages([0, 1], [0, 1]) == ["Five Those.", "Saba Yeye."]


def test_translated_sets_share_their_query_ids(tmp_path: Path) -> None:
    corpus = opened(write_jsonl(tmp_path / "c", ROWS), tmp_path, format="mrtydi", parallel_ids=True)
    assert corpus.ids(slice(None)) == ["1#7#0", "1#9#2", "2#5#0"]
    assert corpus.passages([0], [1]) == ["Saba Yeye."]


@pytest.mark.parametrize("layout", ["gzip", "saved"])
def test_compressed_files_and_saved_data_sets_are_read_alike(tmp_path: Path, layout: str) -> None:
    plain = opened(write_jsonl(tmp_path / "plain", ROWS), tmp_path, format="mrtydi")
    (tmp_path / "other").mkdir()
    for language, rows in ROWS.items():
        if layout == "gzip":
            with gzip.open(tmp_path / "other" / f"{language}.jsonl.gz", "wt", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "other" / language)
    assert opened(tmp_path / "other", tmp_path, format="mrtydi").fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positive_passages": []}, r"en\.jsonl:2: a query needs a query_id and at least one"),
        ({"positive_passages": [passage("5#0", "Title only", "")]}, r"en\.jsonl:2: 'passage' is empty"),
        ({"query": ""}, r"en\.jsonl:2: 'question' is empty"),
    ],
)
def test_a_bad_query_is_named_with_its_row(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    rows = {"en": [ROWS["en"][0], ROWS["en"][1] | changes]}
    with pytest.raises(UserError, match=message):
        opened(write_jsonl(tmp_path / "c", rows), tmp_path, format="mrtydi")


def test_another_layout_is_told_apart(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "c", {"en": [{"id": "a", "question": "?", "passage": "A"}]})
    with pytest.raises(UserError, match="no column 'query_id'"):
        opened(folder, tmp_path, format="mrtydi")
