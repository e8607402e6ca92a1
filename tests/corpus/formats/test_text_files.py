"""What is wrong in a text file is said with the file, the line and the cause."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import datasets
import pytest

from hybatch.errors import UserError
from tests.corpus.layouts import contents, opened
from tests.corpus.readers import tsv_text

HEADER = b"id,question,passage\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"


@pytest.fixture(autouse=True)
def _no_network_and_no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


BAD: list[tuple[str, bytes, str]] = [
    ("csv", HEADER + b'1,q,"opens\n2,r,s\n3,"t",u\n', r":2: a quotation mark of the row that begins here"),
    ("csv", HEADER + b'1,q,p\n2,r,"never closes\n3,s,t\n', r":3: a quotation mark .* \(unexpected end of data, line 4"),
    ("csv", HEADER + b'1,q,p\n2,"r" s,t\n', r":3: a quotation mark of the row"),
    ("csv", HEADER + b"1,q,p\n2,r\n", r":3: 2 cells, but 3 columns; put a text that holds ','"),
    ("csv", HEADER + b"1,q,p,too much\n", r":2: 4 cells, but 3 columns"),
    ("csv", b"id,question,id\n1,q,p\n", r":1: column 'id' stands twice"),
    ("csv", HEADER + b"1,q,p\n2,caf\xe9,p\n", r":3: not UTF-8 text \(byte 5 of the line\); convert the file to UTF-8"),
    ("csv", HEADER + b'1,q,"two\nlines \xff"\n', r":3: not UTF-8 text"),
    ("csv", HEADER.decode().encode("utf-16"), r":1: not UTF-8 text .* convert the file from UTF-16 to UTF-8"),
    ("csv", HEADER + b"1,q, \n", r":2: 'passage' is empty"),
    ("csv", HEADER + b"1,q,p\n,r,s\n", r":3: 'id' is missing"),
    ("csv", HEADER + b"1,q,p\n\n1,r,s\n", r":4: this id stands already at .*:2;"),
    ("csv", HEADER.replace(b"\n", b"\r") + b"1,q,p\r", r":1: a carriage return stands where no line ends"),
    ("csv", HEADER + b"1,q,p\n2,a\rb,p\n", r":3: a carriage return .* or put the text that holds it in quotation"),
    ("tsv", b"id\tquestion\tpassage\r1\tq\tp\r2\tr\tp", r":1: a carriage return"),
    (
        "csv",
        b"id,question, Passage\n1,q,p\n",
        r":2: no column 'passage', but . Passage.: map it in `columns",
    ),
    ("csv", b"id,questions,passage\n1,q,p\n", r":2: no column 'question', but 'questions'"),
    ("jsonl", b'{"id": "1", "question": "q", "negative": ["n"]}\n', r":1: no column 'negatives', but 'negative'"),
    ("csv", POINTER, r": holds no more than where Git LFS keeps the file: fetch it \(git lfs install; git lfs pull\)"),
    ("jsonl", POINTER, r": holds no more than where Git LFS keeps the file"),
    ("tsv", b"id\tquestion\tpassage\n1\tq\tp\n2\tr\n", r":3: 2 cells, but 3 columns; a row has 2 of '\\t'"),
    ("tsv", b"id\tquestion\tpassage\n1\tq\t\xe9\n", r":2: not UTF-8 text"),
    ("jsonl", b'{"id": "1", "question": "q"}\n{"id": "2" "question": "q"}\n', r":2: malformed JSON \(Expecting ','"),
    ("jsonl", b'{"id": "1", "question": "q"}\n["2", "q"]\n', r":2: expected one object a line"),
    ("jsonl", b'{"id": "1", "question": "\xe9"}\n', r":1: not UTF-8 text"),
    ("json", b'[{"id": "1", "question": "q"},\n {"id": "2", "question": }]', r":2: malformed JSON"),
    ("json", b'[{"id": "1", "question": "q"}, "2"]', r": item 1 is no object"),
]


@pytest.mark.parametrize(("kind", "content", "message"), BAD)
@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_bad_file_is_named_with_its_line_and_what_is_wrong(
    kind: str, content: bytes, message: str, where: str, tmp_path: Path
) -> None:
    path = tmp_path / "data" / f"train.{kind}"
    path.parent.mkdir()
    path.write_bytes(content)
    named = path if where == "file" else path.parent
    with pytest.raises(UserError, match=rf"train\.{kind}{message}"):
        opened(named, tmp_path, languages=["en"], format="datasets")


def test_a_packed_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    packed = gzip.compress(HEADER + b"".join(b"%d,question %d,passage\n" % (k, k * k) for k in range(5000)))
    (tmp_path / "all.csv.gz").write_bytes(packed[:-100])
    with pytest.raises(UserError, match=r"all\.csv\.gz: the packed file is damaged after line \d+"):
        opened(tmp_path / "all.csv.gz", tmp_path, languages=["en"])


def test_a_data_file_that_is_no_text_is_named_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "all.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(UserError, match=r"all\.parquet: cannot be loaded as a Hugging Face data set: .*Parquet"):
        opened(tmp_path / "all.parquet", tmp_path, languages=["en"])


def test_a_column_that_is_mapped_is_not_taken_for_another_spelling(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_bytes(b"id,question,Passage,negative\n1,q,p,n\n")
    columns = {"passage": "Passage", "negatives": "negative"}
    corpus = opened(tmp_path / "all.csv", tmp_path, languages=["en"], columns=columns)
    assert contents(corpus) == {"en": {"1": ("q", "p")}}
    assert corpus.hard_negatives([0], [0]) == [["n"]]


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_texts(tmp_path: Path) -> None:
    for kind, text in (("csv", "id,question,passage\r\n1,q,p\r\n"), ("tsv", "id\tquestion\tpassage\r\n1\tq\tp\r\n")):
        (tmp_path / f"all.{kind}").write_bytes(("\ufeff" + text).encode())
        assert contents(opened(tmp_path / f"all.{kind}", tmp_path, languages=["en"])) == {"en": {"1": ("q", "p")}}


def test_python_s_limit_for_a_cell_is_as_it_was_afterwards(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    (tmp_path / "all.csv").write_bytes(HEADER + b"1,q," + b"p" * 200_000 + b'\n2,r,"\n')
    with pytest.raises(UserError, match=r"all\.csv:3"):
        opened(tmp_path / "all.csv", tmp_path, languages=["en"])
    assert csv.field_size_limit() == before


def test_a_column_may_be_missing_from_the_first_thousands_of_json_lines(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": str(k), "question": f"{k}?", "text": f"{k}."} for k in range(9000)]
    rows[8500]["hard"] = ["not this"]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"passage": "text", "negatives": "hard"}
    corpus = opened(tmp_path / "all.jsonl", tmp_path, languages=["en"], columns=columns)
    assert corpus.hard_negatives([8499, 8500], [0, 0]) == [[], ["not this"]]
    with pytest.raises(UserError, match=r"all\.jsonl:1: no column 'harder'; there are id, question, text, hard"):
        opened(tmp_path / "all.jsonl", tmp_path, languages=["en"], columns=columns | {"negatives": "harder"})


def many(folder: Path, name: str = "train", number: int = 10) -> Path:
    folder.mkdir(exist_ok=True)
    text = tsv_text([(f"{name}{k}", f"{k}?", f"{k}.") for k in range(number)])
    (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("split", "ids"),
    [
        ("test", ["test0", "test1"]),
        ("train[:20%]", ["train0", "train1"]),
        ("train[-1:]+test[:1]", ["train9", "test0"]),
    ],
)
def test_an_expression_of_splits_is_followed_in_text_files(split: str, ids: list[str], tmp_path: Path) -> None:
    many(many(tmp_path / "c"), "test", 2)
    assert opened(tmp_path / "c", tmp_path, languages=["en"], format="datasets", split=split).ids(slice(None)) == ids


def test_a_split_that_text_files_do_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no split 'dev'; there are train"):
        opened(many(tmp_path / "c"), tmp_path, languages=["en"], format="datasets", split="dev")


def card(folder: Path, options: str) -> Path:
    text = f"---\nconfigs:\n- config_name: default\n  data_files: all.csv\n{options}---\n"
    (folder / "README.md").write_text(text, encoding="utf-8")
    return folder


def test_what_a_card_says_of_its_csv_files_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "all.csv").write_bytes("007;qué;nan\n".encode("latin-1"))
    card(folder, "  sep: ';'\n  names: [id, question, passage]\n  header: null\n  encoding: latin-1\n")
    corpus = opened(folder, tmp_path, languages=["en"], format="datasets")
    assert contents(corpus) == {"en": {"007": ("qué", "nan")}}


def test_what_a_card_says_and_is_not_followed_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "all.csv").write_bytes(b"# by hand\n" + HEADER + b"1,q,p\n")
    with pytest.raises(UserError, match="its card sets skiprows for its text files, which hybatch does not follow"):
        opened(card(folder, "  skiprows: 1\n"), tmp_path, languages=["en"], format="datasets")


def test_an_index_of_what_earlier_versions_read_of_a_csv_file_is_not_opened(tmp_path: Path) -> None:
    """A cell could be a number or nothing to them; a folder of <lang>.jsonl is read as ever."""
    from hybatch.corpus.formats.registry import FORMATS

    (tmp_path / "en.csv").write_bytes(HEADER)
    (tmp_path / "en.jsonl").write_bytes(b"")
    for name in ("datasets", "mrtydi"):
        reading = FORMATS[name].reading
        paths = ["en.csv", "{language}.csv", "{language}.tsv.gz", "."]
        assert [reading(str(tmp_path / path)) for path in paths] == [2, 2, 2, 2]
        assert [reading(path) for path in (str(tmp_path / "en.jsonl"), "owner/name")] == [1, 1]
