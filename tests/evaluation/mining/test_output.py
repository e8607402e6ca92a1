"""The mined corpus on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybatch.corpus import CorpusConfig, open_corpus
from hybatch.errors import UserError
from hybatch.evaluation.mining.mine import Negatives
from hybatch.evaluation.mining.output import check_rows, write_filled
from hybatch.evaluation.results import dump


def test_a_byte_order_mark_of_the_old_corpus_is_no_part_of_the_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    row = {"id": "a", "question": "?", "passage": "A"}
    (folder / "en.jsonl").write_text("\ufeff" + json.dumps(row) + "\n", encoding="utf-8")
    corpus = open_corpus(CorpusConfig(path=str(folder)), cache_dir=tmp_path / "cache", progress=False)
    write_filled(folder, corpus, tmp_path / "mined", {"en": {0: Negatives(["B"], [])}}, {})
    mined = (tmp_path / "mined" / "en.jsonl").read_text(encoding="utf-8")
    assert json.loads(mined) == row | {"negatives": ["B"]}


def test_fields_that_indexing_leaves_alone_are_kept_whatever_they_hold(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    extra = r'"title": "caf\u00e9 \ud83d\ude00", "cut": ["\udc00x", {"\ud83d": null}], "size": 1e-7, "none": NaN'
    lines = [f'{{"id": "{i}", "question": "q{i}", "passage": "p{i}", {extra}}}' for i in range(3)]
    (folder / "en.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    corpus = open_corpus(CorpusConfig(path=str(folder)), cache_dir=tmp_path / "cache", progress=False)
    check_rows(folder, corpus)
    found = {place: Negatives([text], []) for place, text in enumerate(("p1", "p2", "p0"))}
    write_filled(folder, corpus, tmp_path / "mined", {"en": found}, {"model": "a\udcff"})
    mined = (tmp_path / "mined" / "en.jsonl").read_text(encoding="utf-8").splitlines()
    before = [dump_of(json.loads(line)) for line in lines]
    after = [{name: value for name, value in json.loads(line).items() if name != "negatives"} for line in mined]
    assert [dump_of(row) for row in after] == before
    assert '"café 😀"' in mined[0]
    assert json.loads((tmp_path / "mined" / "mining.json").read_text(encoding="utf-8")) == {"model": "a\udcff"}


@pytest.mark.parametrize("save_scores", [True, False])
def test_scores_go_with_the_negatives_that_they_are_of(save_scores: bool, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    old = {"negatives": ["x", "y"], "scores": [0.9, 0.5, 0.25]}
    rows = [{"id": f"{i}", "question": f"q{i}", "passage": f"p{i}"} | old for i in range(3)]
    (folder / "en.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    corpus = open_corpus(CorpusConfig(path=str(folder)), cache_dir=tmp_path / "cache", progress=False)
    found = {0: Negatives(["p1", "p2"], [1.0, 0.5, -0.25]), 1: Negatives([], [])}
    write_filled(folder, corpus, tmp_path / "mined", {"en": found}, {}, save_scores=save_scores)
    lines = (tmp_path / "mined" / "en.jsonl").read_text(encoding="utf-8").splitlines()
    filled, emptied, untouched = map(json.loads, lines)
    assert filled["negatives"] == ["p1", "p2"]
    assert filled.get("scores") == ([1.0, 0.5, -0.25] if save_scores else None)
    assert not {"negatives", "scores"} & emptied.keys()
    assert untouched == rows[2]


def dump_of(row: object) -> str:
    """Text that tells NaN from nothing and halves of pairs from each other."""
    return json.dumps(row, sort_keys=True)


def test_a_row_that_was_not_there_when_the_corpus_was_read_is_named_before_any_encoding(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    path = folder / "de.jsonl"
    path.write_text(json.dumps({"id": "a", "question": "?", "passage": "A"}) + "\n", encoding="utf-8")
    corpus = open_corpus(CorpusConfig(path=str(folder)), cache_dir=tmp_path / "cache", progress=False)
    path.write_text(json.dumps({"id": "b", "question": "?", "passage": "A"}) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"de\.jsonl: id 'b' was not there"):
        check_rows(folder, corpus)


def test_results_hold_half_a_surrogate_pair_as_json_escapes_it() -> None:
    assert dump({"model": "runs/\udcff 😀"}) == '{\n  "model": "runs/\\udcff 😀"\n}\n'
