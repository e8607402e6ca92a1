"""Collections in files: numbered in file order, read where they are wanted, refused by file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.collection.passages import Passages, json_lines
from tests.evaluation.collection.fakes import write_lines

READ = json_lines("docid")


def _rows(first: int, count: int) -> list[dict[str, str]]:
    return [
        {"docid": f"{i}#0", "title": f"T{i}" if i % 2 else "", "text": f"text {i}"} for i in range(first, first + count)
    ]


@pytest.fixture
def passages(tmp_path: Path) -> Passages:
    """Eleven passages in three files, one gzipped and one with blank lines, in shards of four."""
    paths = [
        write_lines(tmp_path / "docs-0.jsonl.gz", _rows(0, 5)),
        write_lines(tmp_path / "docs-1.jsonl", ["", *_rows(5, 1), "  ", *_rows(6, 2)]),
        write_lines(tmp_path / "docs-2.jsonl.gz", _rows(8, 3)),
    ]
    return Passages("c", paths, READ, shard_rows=4)


def test_shards_cut_the_files_and_together_hold_every_passage_in_order(passages: Passages) -> None:
    assert [shard.rows for shard in passages.shards] == [4, 4, 3]
    texts = [passage.encoded for shard in passages.shards for passage in passages.read(shard)]
    assert texts == [f"T{i} text {i}" if i % 2 else f"text {i}" for i in range(11)]


def test_passages_are_found_by_id_and_read_by_number(passages: Passages) -> None:
    assert passages.find(["7#0", "nothing", "0#0"]).tolist() == [7, -1, 0]
    assert passages.find([]).tolist() == []
    found = passages.read_some([9, -1, 3, 9])
    assert {number: passage.id for number, passage in found.items()} == {3: "3#0", 9: "9#0"}


def test_other_lines_have_another_fingerprint(passages: Passages, tmp_path: Path) -> None:
    again = Passages("d", [write_lines(tmp_path / "all.jsonl", _rows(0, 11))], READ)
    assert again.fingerprint == passages.fingerprint
    other = Passages("d", [write_lines(tmp_path / "fewer.jsonl", _rows(0, 10))], READ)
    assert other.fingerprint != passages.fingerprint


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"docid": "x", "text": ', r"c\.jsonl:3: malformed JSON"),
        ("[1]", r"c\.jsonl:3: not an object"),
        ('{"docid": "x"}', r"c\.jsonl:3: field 'text' is missing; the line has docid"),
        ('{"docid": "x", "text": null}', r"c\.jsonl:3: field 'text' is None, not text"),
        ('{"docid": "1#0", "text": "t"}', r"c\.jsonl:3: passage id '1#0' stands at .*c\.jsonl:2 too"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write_lines(tmp_path / "c.jsonl", [*_rows(0, 2), line])
    with pytest.raises(UserError, match=message):
        Passages("c", [path], READ)


def test_a_damaged_archive_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "docs-0.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"docid": "a", "text": "b"}\n' * 1000)[:60])
    with pytest.raises(UserError, match=r"docs-0\.jsonl\.gz: damaged after line"):
        Passages("c", [path], READ)
    with pytest.raises(UserError, match="no passage"):
        Passages("c", [write_lines(tmp_path / "empty.jsonl", [])], READ)
