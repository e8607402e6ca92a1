"""A format is an entry: help, documentation, choices and detection follow the registry."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from hybatch.corpus import CorpusConfig, config
from hybatch.corpus.formats.entry import below
from hybatch.corpus.formats.registry import FORMATS, find_format
from hybatch.errors import UserError
from tests.corpus.readers import READERS

ROWS = [("1", "who?", "me")]


def test_the_choices_of_the_option_are_the_formats() -> None:
    assert get_args(get_type_hints(CorpusConfig)["format"]) == ("auto", *FORMATS)


def test_the_table_of_the_documentation_has_what_the_entries_say() -> None:
    text = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(?!format`)([a-z]+)` \| (.+) \|$", text, flags=re.MULTILINE)
    assert sorted(table) == sorted((entry.name, entry.description) for entry in FORMATS.values())


def test_the_help_of_the_option_speaks_of_every_format() -> None:
    text = inspect.getsource(config).partition("    format: ")[2].partition("    split: ")[0]
    for name in FORMATS.keys() - {"embedded"}:
        assert f"{name}: " in text


@pytest.mark.parametrize(
    ("reader", "name"),
    [("jsonl", "jsonl"), ("squad", "squad"), ("saved", "datasets"), ("csv", "datasets"), ("mmarco", "mmarco")],
)
def test_a_path_is_told_from_what_is_there(reader: str, name: str, tmp_path: Path) -> None:
    path = str(READERS[reader](tmp_path / "c", ROWS)["path"])
    assert find_format(CorpusConfig(path=path), path).name == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("embedded", "embedded"),
        ("data/{language}.jsonl", "datasets"),
        ("/nowhere/{language}", "datasets"),
        ("owner/name", "datasets"),
    ],
)
def test_a_path_is_told_from_its_form(path: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_format(CorpusConfig(path=path), path).name == name


def test_a_folder_of_several_formats_is_of_the_first_in_the_registry(tmp_path: Path) -> None:
    path = str(tmp_path / "c")
    found = []
    for reader in ("squad", "jsonl", "saved", "mmarco"):
        READERS[reader](tmp_path / "c", ROWS)
        found.append(find_format(CorpusConfig(path=path), path).name)
    assert found == ["squad", "jsonl", "datasets", "mmarco"]


def test_a_format_that_is_named_is_taken_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = str(READERS["jsonl"](tmp_path / "c", ROWS)["path"])
    assert find_format(CorpusConfig(path=path, format="squad"), path).name == "squad"
    with pytest.raises(UserError, match=r"corpora\.format is 'csv': it must be one of auto, embedded"):
        CorpusConfig(path=path, format="csv")


@pytest.mark.parametrize(
    ("path", "folder"), [("a/b", "a/b"), ("a/{language}.csv", "a"), ("a/x{language}", "a"), ("{language}/b", ".")]
)
def test_what_names_an_index_is_the_folder_that_holds_the_files(path: str, folder: str) -> None:
    assert below(path) == Path(folder)


def test_an_entry_is_all_that_a_format_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hybatch.corpus.formats.entry import FormatEntry, from_rows
    from hybatch.corpus.rows import RowBatch
    from tests.corpus.layouts import contents, opened

    class Lines:
        place, work_unit, total_work, languages = "lines", "rows", None, ("en",)

        def __init__(self, config: Any, path: str) -> None:
            self.rows = [line.split("|") for line in Path(path, "lines.txt").read_text().splitlines()]

        def batches(self, language: str) -> Any:
            ids, questions, passages = (list(column) for column in zip(*self.rows, strict=True))
            yield RowBatch(ids=ids, questions=questions, passages=passages, place="line {}".format, work=len(ids))

    entry = FormatEntry(
        name="lines",
        description="",
        recognises=lambda path: Path(path, "lines.txt").is_file(),
        build=from_rows(Lines),
    )
    monkeypatch.setitem(FORMATS, "lines", entry)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "lines.txt").write_text("a|why?|so\n")
    assert contents(opened(tmp_path / "c", tmp_path)) == {"en": {"a": ("why?", "so")}}
