"""Texts, ids and languages are what stands in the files, in every reader: nothing is taken for a number or for none."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.errors import UserError
from tests.corpus.layouts import contents, opened, write_jsonl
from tests.corpus.readers import LINE_READERS, READERS, Rows, csv_text, read_id, tsv_text, write_csv

ODD = ["NULL", "N/A", "#N/A", "NaN", "-nan", "<NA>", "none", "nil", "True", "false", "1e5", "-0", "00", "007", "1.0",
       "1_000", "0x1F", "+5", "inf", "2024-01-01", "2021-03-04T05:06:07Z", "12:30", "1,5", "no", "~", "=1+1", "''",
       "{}", "[]", "\\N", "\\", "#", "%", "é", "\u00a0x"]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_network_and_no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


def read(reader: str, folder: Path, rows: Rows) -> dict[str, tuple[str | None, str | None]]:
    settings = READERS[reader](folder / "corpus", rows)
    return contents(opened(settings.pop("path"), folder / "cache", **settings))["en"]


def as_read(reader: str, rows: Rows) -> dict[str, tuple[str, str]]:
    # A title, which is none here, goes before the text.
    return {read_id(reader, i): (q, p.strip() if reader == "mrtydi" else p) for i, q, p in rows}


@pytest.mark.parametrize("reader", READERS)
def test_words_that_look_like_something_else_stay_words(reader: str, tmp_path: Path) -> None:
    rows = [(word, ODD[k - 1], ODD[k - 2]) for k, word in enumerate(ODD)]
    assert read(reader, tmp_path, rows) == as_read(reader, rows)


@pytest.mark.parametrize("reader", READERS)
def test_a_column_of_numbers_alone_is_one_of_texts(reader: str, tmp_path: Path) -> None:
    rows = [(f"{k:03}", f"{k}.50", f"{k}e0") for k in range(1, 4)]
    assert read(reader, tmp_path, rows) == as_read(reader, rows)


@pytest.mark.parametrize("reader", [name for name in READERS if name not in LINE_READERS])
def test_quotation_marks_commas_and_ends_of_lines_are_part_of_a_text(reader: str, tmp_path: Path) -> None:
    texts = ['"', '""', 'a "b" c', '"quoted"', "a,b", "two\nlines", "two\r\nlines", 'end"', "tab\tin", 'x,"\ny']
    rows = [(f"i{k}", text, texts[k - 1]) for k, text in enumerate(texts)]
    assert read(reader, tmp_path, rows) == as_read(reader, rows)


@pytest.mark.parametrize("reader", LINE_READERS)
def test_without_quoting_a_quotation_mark_is_a_character_like_any_other(reader: str, tmp_path: Path) -> None:
    texts = ['"opens', 'closes"', '"both"', '""', 'a "b" c', "a,b", "'"]
    rows = [(f"i{k}", text, texts[k - 1]) for k, text in enumerate(texts)]
    assert read(reader, tmp_path, rows) == as_read(reader, rows)


@pytest.mark.parametrize("reader", ["csv", "json lines", "json list", "tsv"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_text_comes_back_as_it_was_written(reader: str, data: st.DataObject) -> None:
    barred = "\t\r\n" if reader in LINE_READERS else ""
    character = st.characters(exclude_categories=["Cs"], exclude_characters=barred)
    text = st.text(character, min_size=1, max_size=6).filter(str.strip) | st.sampled_from(ODD)
    rows = data.draw(st.lists(st.tuples(text, text, text), min_size=1, max_size=6, unique_by=lambda row: row[0]))
    with tempfile.TemporaryDirectory() as folder:
        assert read(reader, Path(folder), rows) == as_read(reader, rows)


@pytest.mark.parametrize("reader", ["csv", "folder of csv"])
def test_a_text_may_be_longer_than_pythons_limit_for_a_cell(reader: str, tmp_path: Path) -> None:
    rows = [("a", "long?", "word " * 40_000 + ".")]
    assert read(reader, tmp_path, rows) == as_read(reader, rows)


@pytest.mark.parametrize(("kind", "text"), [("csv", csv_text), ("tsv", tsv_text)])
def test_languages_are_texts_as_well(kind: str, text: Any, tmp_path: Path) -> None:
    codes = ["nan", "no", "null", "na", "true", "1"]
    rows = [("7", f"q {code}", f"p {code}", code) for code in codes]
    path = tmp_path / f"all.{kind}"
    path.write_text(text(rows, header=("id", "question", "passage", "lang")), encoding="utf-8")
    corpus = opened(path, tmp_path, columns={"language": "lang"})
    assert contents(corpus) == {code: {"7": (f"q {code}", f"p {code}")} for code in sorted(codes)}


def test_whole_numbers_of_a_typed_column_are_ids_and_no_other_numbers_are(tmp_path: Path) -> None:
    texts = {"question": ["a?", "b?"], "passage": ["A", "B"]}
    datasets.Dataset.from_dict({"id": [7, 10**17], **texts}).to_parquet(tmp_path / "whole.parquet")
    assert opened(tmp_path / "whole.parquet", tmp_path, languages=["en"]).ids(slice(None)) == [
        "7",
        "100000000000000000",
    ]
    for name, ids in (("float", [1.0, 2.0]), ("bool", [True, False])):
        datasets.Dataset.from_dict({"id": ids, **texts}).to_parquet(tmp_path / f"{name}.parquet")
        with pytest.raises(UserError, match=rf"row 0 of split train: 'id' is {ids[0]}, not a text"):
            opened(tmp_path / f"{name}.parquet", tmp_path, languages=["en"])


def test_an_empty_cell_is_a_text_that_is_not_there(tmp_path: Path) -> None:
    rows = [["id", "question", "passage", "passage_id"], ["a", "q?", "", ""], ["b", "", "B", "1"]]
    corpus = opened(write_csv(tmp_path / "all.csv", rows), tmp_path, languages=["en"])
    assert contents(corpus) == {"en": {"a": ("q?", None), "b": (None, "B")}}


EMPTY: list[tuple[str, str, str]] = [
    ("csv", "id,question,passage,lang\n1,q,p,en\n\n2,q,p,\n3,q,p,de\n", r"all\.csv:4: column 'lang' is empty"),
    ("tsv", "id\tquestion\tpassage\tlang\n1\tq\tp\ten\n2\tq\tp\t \n", r"all\.tsv:3: column 'lang' is empty"),
    (
        "jsonl",
        '{"id": "1", "question": "q", "passage": "p", "lang": "en"}\n{"id": "2", "question": "q", "passage": "p"}\n',
        r"all\.jsonl:2: column 'lang' is empty",
    ),
    ("jsonl", '{"id": "1", "question": "q", "lang": 5}\n', r"all\.jsonl:1: 'lang' is 5, not a text"),
]


@pytest.mark.parametrize(("kind", "text", "message"), EMPTY)
@pytest.mark.parametrize("languages", [None, ["en"]])
def test_a_row_without_a_language_is_named(
    kind: str, text: str, message: str, languages: list[str] | None, tmp_path: Path
) -> None:
    (tmp_path / f"all.{kind}").write_text(text, encoding="utf-8")
    if "not a text" in message and languages:
        message = r"all\.jsonl:1: column 'lang' is 5, not a text"
    with pytest.raises(UserError, match=message):
        opened(tmp_path / f"all.{kind}", tmp_path, columns={"language": "lang"}, languages=languages)


def test_a_row_without_a_language_of_a_typed_column_is_named(tmp_path: Path) -> None:
    columns = {"id": ["a", "b"], "question": ["q", "r"], "passage": ["p", "s"], "lang": ["en", None]}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "c")
    with pytest.raises(UserError, match="row 1 of split train: column 'lang' is empty"):
        opened(tmp_path / "c", tmp_path, columns={"language": "lang"})


@pytest.mark.parametrize("code", ["a/b", "..", "x\u0000y", "\ud83d"])
def test_a_language_that_no_file_can_be_named_after_is_refused(code: str, tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "c", {"all": []})
    line = '{"id": "1", "question": "q", "passage": "p", "lang": %s}\n'
    (folder / "all.jsonl").write_text(line % json.dumps(code), encoding="utf-8")
    with pytest.raises(UserError, match="cannot be part of a file's name; give it another in `language_names`"):
        opened(folder / "all.jsonl", tmp_path, columns={"language": "lang"})


@pytest.mark.parametrize("field", ["id", "question", "passage", "passage_id"])
def test_half_a_character_in_a_field_that_is_read_is_named_with_its_line(field: str, tmp_path: Path) -> None:
    good = {"id": "1", "question": "q", "passage": "p", "passage_id": "x"}
    folder = write_jsonl(tmp_path / "c", {"en": [good]})
    bad = json.dumps(good | {"id": "2", field: "half \udc00"})
    with open(folder / "en.jsonl", "a", encoding="utf-8") as file:
        file.write(bad + "\n")
    with pytest.raises(UserError, match=r"en\.jsonl:2: a text holds half a surrogate pair"):
        opened(folder, tmp_path)
