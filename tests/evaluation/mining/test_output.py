"""The mined corpus on disk."""

from __future__ import annotations

import json
from pathlib import Path

from hybatch.corpus import CorpusConfig, open_corpus
from hybatch.evaluation.mining.output import write_filled


def test_a_byte_order_mark_of_the_old_corpus_is_no_part_of_the_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    row = {"id": "a", "question": "?", "passage": "A"}
    (folder / "en.jsonl").write_text("\ufeff" + json.dumps(row) + "\n", encoding="utf-8")
    corpus = open_corpus(CorpusConfig(path=str(folder)), cache_dir=tmp_path / "cache", progress=False)
    write_filled(folder, corpus, tmp_path / "mined", {"en": {0: ["B"]}}, {})
    mined = (tmp_path / "mined" / "en.jsonl").read_text(encoding="utf-8")
    assert json.loads(mined) == row | {"negatives": ["B"]}


def test_half_a_character_in_a_field_that_is_not_read_is_written_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    row = {"id": "a", "question": "é?", "passage": "A", "note \udc00": ["cut \ud83d", "\U0001f600"]}
    (folder / "en.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    corpus = open_corpus(CorpusConfig(path=str(folder)), cache_dir=tmp_path / "cache", progress=False)
    write_filled(folder, corpus, tmp_path / "mined", {"en": {0: ["B"]}}, {})
    mined = (tmp_path / "mined" / "en.jsonl").read_text(encoding="utf-8")
    assert json.loads(mined) == row | {"negatives": ["B"]}
    assert "é" in mined
    assert open_corpus(CorpusConfig(path=str(tmp_path / "mined")), cache_dir=tmp_path / "cache", progress=False)
