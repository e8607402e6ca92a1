"""A parallel corpus as a task: distinct passages in file order, positives by passage group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybatch.corpus import CorpusConfig, open_corpus
from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.tasks.parallel import load_parallel, parallel_languages, parallel_task
from tests.evaluation.synthetic import write_jsonl

ROWS: dict[str, list[dict[str, Any]]] = {
    "aa": [
        {"id": "2", "question": "a2?", "passage": "A two."},
        {"id": "1", "question": "a1?", "passage": "A one."},
        {"id": "3", "question": "a3?", "passage": "A two."},
        {"id": "4", "question": "a4?"},
    ],
    "bb": [
        {"id": "4", "question": "b4?", "passage": "B four."},
        {"id": "3", "question": "b3?", "passage": "B three."},
        {"id": "5", "passage": "B five."},
        {"id": "1", "question": "b1?", "passage": "B one."},
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "corpus", ROWS)
    return tmp_path / "corpus"


def test_queries_and_distinct_passages_stand_in_file_order(folder: Path) -> None:
    task = load_parallel(folder, ["aa", "bb"])
    assert task.queries == {"aa": ["a2?", "a1?", "a3?", "a4?"], "bb": ["b4?", "b3?", "b1?"]}
    assert task.candidates == {"aa": ["A two.", "A one."], "bb": ["B four.", "B three.", "B five.", "B one."]}


def test_positives_are_the_passages_of_the_group_in_every_language(folder: Path) -> None:
    task = load_parallel(folder, ["aa", "bb"])
    # Ids 2 and 3 share a passage in aa, so they are one group, to which "B three." belongs.
    assert task.positives == {"aa": [[0, 3], [1, 5], [0, 3], [2]], "bb": [[2], [0, 3], [1, 5]]}


def test_a_folder_named_parallel_below_the_data_folder_is_found(folder: Path) -> None:
    folder.rename(folder.parent / "parallel")
    assert parallel_languages(folder.parent) == ["aa", "bb"]


def test_a_folder_without_a_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no <lang>\.jsonl"):
        parallel_languages(tmp_path)


def test_a_compressed_language_is_left_out_only_where_the_others_are_asked_for(folder: Path) -> None:
    (folder / "bb.jsonl").rename(folder / "bb.jsonl.gz")
    with pytest.raises(UserError, match=r"bb\.jsonl\.gz: is compressed; unpack it"):
        load_task("parallel", folder)
    assert load_task("parallel", folder, ["aa"]).languages == ("aa",)


def test_languages_of_an_opened_corpus_can_be_chosen(folder: Path) -> None:
    corpus = open_corpus(CorpusConfig(path=str(folder)))
    task = parallel_task(corpus, languages=["bb"])
    assert task.languages == ("bb",)
    assert sum(map(len, task.positives["bb"])) == 3


def test_a_limit_takes_examples_evenly_and_their_passages_alone(tmp_path: Path) -> None:
    rows = [{"id": str(i), "question": f"q{i}", "passage": f"p{i}"} for i in range(10)]
    write_jsonl(tmp_path / "corpus", {"aa": rows, "bb": [{**row, "passage": row["passage"] + "b"} for row in rows]})
    corpus = open_corpus(CorpusConfig(path=str(tmp_path / "corpus")))
    task = parallel_task(corpus, limit=5)
    assert task.queries["aa"] == ["q0", "q2", "q4", "q6", "q8"]
    assert task.candidates["bb"] == ["p0b", "p2b", "p4b", "p6b", "p8b"]


@pytest.mark.parametrize(
    ("asked", "message"), [({"languages": ["cc"]}, "no language cc"), ({"limit": 0}, "limit of 0")]
)
def test_what_the_corpus_cannot_give_is_refused(folder: Path, asked: dict[str, Any], message: str) -> None:
    corpus = open_corpus(CorpusConfig(path=str(folder)))
    with pytest.raises(UserError, match=message):
        parallel_task(corpus, **asked)
