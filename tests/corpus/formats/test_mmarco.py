"""Small files in mMARCO's layout."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

import pytest

from hybatch.corpus import ParallelCorpus
from hybatch.errors import UserError
from tests.corpus.layouts import contents, opened

Texts = Mapping[str, Mapping[str, str]]
QUERIES = {
    "english": {"11": "who?", "12": "what?", "13": "when?"},
    "german": {"11": "wer?", "12": "was?", "13": "wann?"},
}
PASSAGES = {
    "english": {"0": "zero", "1": "one", "2": "two", "3": "three"},
    "german": {"0": "null", "1": "eins", "2": "zwei", "3": "drei"},
}
TRIPLES = "11\t0\t1\n12\t1\t2\n11\t0\t3\n13\t3\t0\n11\t2\t3\n"


def write(folder: Path, queries: Texts = QUERIES, passages: Texts = PASSAGES, triples: str = TRIPLES) -> Path:
    google = folder / "data" / "google"
    (google / "collections").mkdir(parents=True)
    (google / "queries" / "train").mkdir(parents=True)
    for name, texts in passages.items():
        lines = [f"{key}\t{text}\n" for key, text in texts.items()]
        (google / "collections" / f"{name}_collection.tsv").write_text("".join(lines), encoding="utf-8")
    for name, texts in queries.items():
        lines = [f"{key}\t{text}\n" for key, text in texts.items()]
        (google / "queries" / "train" / f"{name}_queries.train.tsv").write_text("".join(lines), encoding="utf-8")
    (folder / "data" / "triples.train.ids.small.tsv").write_text(triples, encoding="utf-8")
    return folder


def negatives(corpus: ParallelCorpus, language: int) -> list[list[str]]:
    return corpus.hard_negatives(range(corpus.num_examples), [language] * corpus.num_examples)


def test_every_triple_is_an_example_in_every_language(tmp_path: Path) -> None:
    corpus = opened(write(tmp_path / "m"), tmp_path)
    ids = ["11-0-1", "12-1-2", "11-0-3", "13-3-0", "11-2-3"]
    english = [("who?", "zero"), ("what?", "one"), ("who?", "zero"), ("when?", "three"), ("who?", "two")]
    german = [("wer?", "null"), ("was?", "eins"), ("wer?", "null"), ("wann?", "drei"), ("wer?", "zwei")]
    assert contents(corpus) == {
        "de": dict(zip(ids, german, strict=True)),
        "en": dict(zip(ids, english, strict=True)),
    }
    assert negatives(corpus, 0) == [["eins"], ["zwei"], ["drei"], ["null"], ["drei"]]


def test_examples_of_one_query_or_one_passage_are_of_one_group(tmp_path: Path) -> None:
    corpus = opened(write(tmp_path / "m"), tmp_path)
    assert corpus.passage_groups(slice(None)).tolist() == [0, 1, 0, 2, 0]
    assert corpus.hard_negative_groups(range(5), [1] * 5) == [[1], [0], [2], [0], [2]]


def test_languages_in_another_order_or_with_gaps_are_aligned_by_id(tmp_path: Path) -> None:
    queries = QUERIES | {"german": {"13": "wann?", "11": "wer?"}}
    passages = PASSAGES | {"german": {"3": "drei", "2": "zwei", "0": "null"}}
    whole = contents(opened(write(tmp_path / "whole"), tmp_path))
    corpus = opened(write(tmp_path / "m", queries, passages), tmp_path)
    assert contents(corpus) == {
        "de": {key: cell for key, cell in whole["de"].items() if key != "12-1-2"},
        "en": whole["en"],
    }
    assert negatives(corpus, 0) == [[], ["zwei"], ["drei"], ["null"], ["drei"]]
    assert negatives(corpus, 1) == [["one"], ["two"], ["three"], ["zero"], ["three"]]
    assert corpus.hard_negative_groups([0, 1, 2, 3], [0, 0, 0, 0]) == [[], [0], [2], [0]]


def test_qrels_give_pairs_without_negatives_and_only_the_relevant(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    (folder / "qrels.train.tsv").write_text("11\t0\t0\t1\n12\t0\t1\t0\n13 0 3 1\n", encoding="utf-8")
    corpus = opened(folder, tmp_path, judgements="qrels.train.tsv", languages=["en"])
    assert contents(corpus) == {"en": {"11-0": ("who?", "zero"), "13-3": ("when?", "three")}}
    assert not corpus.has_hard_negatives


@pytest.mark.parametrize(
    ("triples", "message"),
    [
        ("11\t0\t1\n11\t0\n", r"small\.tsv:2: expected 3 ids .* found 2 columns"),
        ("11\t0\t1\n99\t0\t1\n", r"small\.tsv:2: id 99 stands in no queries file"),
        ("11\t0\t99\n", r"small\.tsv:1: id 99 stands in no passages file"),
        ("", "no relevant pair"),
    ],
)
def test_a_bad_line_of_the_triples_is_named(tmp_path: Path, triples: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        opened(write(tmp_path / "m", triples=triples), tmp_path)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"0": "zero", "1": " "}, r"english_collection\.tsv:2: expected an id, a tab and a text"),
        ({"0": "zero", "1": "one\n0\tagain"}, r"english_collection\.tsv: lines 1 and 3 have the same id"),
        ({}, r"english_collection\.tsv: the file is empty"),
    ],
)
def test_a_bad_collection_is_named(tmp_path: Path, texts: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        opened(write(tmp_path / "m", passages=PASSAGES | {"english": texts}), tmp_path)


def test_from_the_hub_only_the_files_of_the_languages_asked_for_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = write(tmp_path / "repository")

    def snapshot_download(hub_id: str, *, allow_patterns: list[str], **_: object) -> str:
        for file in [path for path in repository.rglob("*") if path.is_file()]:
            name = str(file.relative_to(repository))
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (tmp_path / hub_id / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, tmp_path / hub_id / name)
        return str(tmp_path / hub_id)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    corpus = opened("owner/translated", tmp_path, format="mmarco", languages=["de"])
    assert corpus.questions([0], [0]) == ["wer?"]
    assert not list((tmp_path / "owner").rglob("english*"))


def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    with pytest.raises(UserError, match=r"french_queries\.train\.tsv: no such file"):
        opened(folder, tmp_path, languages=["fr"])
    (folder / "data" / "triples.train.ids.small.tsv").unlink()
    with pytest.raises(UserError, match="no triples and no qrels file"):
        opened(folder, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no folder `collections`"):
        opened(tmp_path / "empty", tmp_path, format="mmarco")
