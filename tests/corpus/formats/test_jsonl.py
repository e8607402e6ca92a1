"""What a bad line of a `<lang>.jsonl` file gets."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hybatch.errors import UserError
from tests.corpus.layouts import opened, write_jsonl

GOOD = '{"id": "a", "question": "?", "passage": "A"}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b", "question": ', r"malformed JSON .*; expected one object a line"),
        ('["b", "?", "B"]', "expected one object a line"),
        ('{"question": "?", "passage": "B"}', "'id' is missing"),
        ('{"id": "", "question": "?", "passage": "B"}', "'id' is empty"),
        ('{"id": 7, "question": "?", "passage": "B"}', "'id' is 7, not a text; put it in quotes"),
        ('{"id": "b", "question": " ", "passage": "B"}', "'question' is empty"),
        ('{"id": "b", "question": "?", "passage": ""}', "'passage' is empty"),
        ('{"id": "b", "question": "?", "passage": ["B"]}', r"'passage' is \['B'\], not a text"),
        ('{"id": "b"}', "neither a question nor a passage"),
        ('{"id": "b", "question": null, "passage": null}', "neither a question nor a passage"),
        ('{"id": "b", "question": "?", "passage": "B", "negatives": "C"}', "negatives must be a list of texts"),
        ('{"id": "b", "question": "?", "passage": "B", "negatives": ["C", ""]}', "none of them empty"),
        ('{"id": "b", "question": "?", "passage": "B", "passage_id": "x"}', "passage_id"),
        ('{"id": "b", "question": "?", "passage": "\\ud800"}', "half a surrogate pair"),
        ('{"id": ' + "1" * 5000 + "}", "malformed JSON .*; expected one object a line"),
        ("[" * 100_000, "malformed JSON .*; expected one object a line"),
        ('{"id": "b", "questions": "?", "passage": "B"}', "no field 'questions'; rename it to 'question'"),
        ('{"id": "b", "question": "?", "Passage": "B"}', "no field 'Passage'; rename it to 'passage'"),
        ('{"id": "b", "question": "?", "passage": "B", "negative": ["C"]}', "rename it to 'negatives'"),
        ('{"id": "a", "question": "?", "passage": "B"}', r"stands already at .*en\.jsonl:1;"),
    ],
)
def test_a_bad_line_is_named_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "en.jsonl").write_text(f"{GOOD}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        opened(folder, tmp_path)
    place = 1 if "passage_id" in line else 3
    assert f"{folder / 'en.jsonl'}:{place}:" in str(caught.value)


def test_bytes_that_are_not_utf_8_are_named_with_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "en.jsonl").write_bytes(GOOD.encode() + b'\n{"id": "\xff"}\n')
    with pytest.raises(UserError, match=r"en\.jsonl:2: not UTF-8 .*; convert the file to UTF-8"):
        opened(folder, tmp_path)


@pytest.mark.parametrize(
    ("content", "mend"),
    [
        (GOOD.encode("utf-16"), "convert the file from UTF-16"),
        (gzip.compress(GOOD.encode(), mtime=0), "is gzipped: unpack it"),
    ],
)
def test_utf_16_and_gzip_are_recognised(tmp_path: Path, content: bytes, mend: str) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "en.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=rf"en\.jsonl:1: not UTF-8 .*; .*{mend}"):
        opened(folder, tmp_path)


def test_a_byte_order_mark_and_fields_of_other_names_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    row = '{"id": "b", "passage": "B", "question_id": 7, "title": "C", "passage_title": "D"}'
    (folder / "en.jsonl").write_text(f"\ufeff{GOOD}\n{row}\n", encoding="utf-8")
    assert opened(folder, tmp_path).ids(slice(None)) == ["a", "b"]


def test_a_file_without_rows_is_named(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "corpus", {"en": [], "de": [{"id": "a", "passage": "A"}]})
    with pytest.raises(UserError, match="corpus: no row in en"):
        opened(folder, tmp_path)


def test_a_passage_id_in_some_languages_only_is_refused(tmp_path: Path) -> None:
    row = {"id": "a", "passage": "A"}
    folder = write_jsonl(tmp_path / "corpus", {"de": [row], "en": [row | {"passage_id": "x"}]})
    with pytest.raises(UserError, match=r"en\.jsonl:1: passage_id stands in some rows"):
        opened(folder, tmp_path)


def test_blank_lines_and_a_missing_last_line_end_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "en.jsonl").write_text(f"\n{GOOD}\n \n{GOOD.replace('a', 'b')}", encoding="utf-8")
    assert opened(folder, tmp_path).num_examples == 2


def test_a_file_that_git_lfs_has_not_fetched_is_named(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "en.jsonl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n")
    with pytest.raises(UserError, match=r"en\.jsonl: holds no more than where Git LFS keeps the file"):
        opened(tmp_path / "c", tmp_path)
