"""A damaged index is never read: it is made anew with a line that says so, whatever was damaged and by whom written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybatch.corpus import ParallelCorpus
from hybatch.corpus.index import integrity
from hybatch.errors import UserError
from tests.corpus.layouts import Row, contents, opened, write_jsonl

ROWS: dict[str, list[Row]] = {
    "de": [{"id": f"{k}", "question": f"Was {k % 7}?", "passage": f"Das {k}.", "negatives": ["?"]} for k in range(20)],
    "en": [{"id": f"{k}", "question": f"What {k}?", "passage": f"That {k}."} for k in range(19, -1, -1)],
}
FILES = [
    "equal-questions.de.npy", "examples.arrow", "examples.buffers.npy", "ids.arrow", "ids.buffers.npy", "index.json",
    "negative-groups.de.arrow", "negative-groups.de.buffers.npy", "negatives.de.arrow", "negatives.de.buffers.npy",
    "texts.de.arrow", "texts.de.buffers.npy", "texts.en.arrow", "texts.en.buffers.npy",
]  # fmt: skip


def everything(corpus: ParallelCorpus) -> Any:
    examples, languages = np.arange(corpus.num_examples), np.zeros(corpus.num_examples, dtype=np.int64)
    return (
        contents(corpus),
        corpus.fingerprint,
        corpus.statistics,
        corpus.passage_groups(examples).tolist(),
        corpus.answering_groups(examples, languages),
        corpus.hard_negatives(examples, languages),
        corpus.hard_negative_groups(examples, languages),
    )


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def lengthen(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"\0" * 8)


def blank(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def flip(path: Path) -> None:
    """One bit in the middle, the times of the file left as they are."""
    state = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


DAMAGES: list[Callable[[Path], None]] = [Path.unlink, cut, empty, lengthen, flip]


def as_version_0_1_0_left_it(directory: Path) -> None:
    """Take away what that version did not write."""
    index = json.loads((directory / "index.json").read_text(encoding="utf-8"))
    del index["files"], index["fields"], index["checksum"]
    (directory / "index.json").write_text(json.dumps(index, indent=1, ensure_ascii=False), encoding="utf-8")
    (directory / "verified.json").unlink()
    for path in directory.glob("equal-questions.*"):
        path.unlink()


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus and its cache, to be copied."""
    folder = tmp_path_factory.mktemp("whole")
    opened(write_jsonl(folder / "corpus", ROWS), folder / "cache")
    return folder


@pytest.fixture(params=["present", "version 0.1.0"])
def indexed(request: pytest.FixtureRequest, whole: Path, tmp_path: Path) -> Path:
    """The corpus, its cache beside it, of this code or of version 0.1.0."""
    shutil.copytree(whole / "corpus", tmp_path / "corpus")
    corpus = opened(tmp_path / "corpus", tmp_path / "cache")
    if request.param == "version 0.1.0":
        as_version_0_1_0_left_it(corpus.directory)
    return tmp_path


def directory_of(indexed: Path) -> Path:
    return next((indexed / "cache" / "corpora").glob("corpus-*"))


def test_the_files_are_those_that_are_damaged_here(whole: Path) -> None:
    index = json.loads((directory_of(whole) / "index.json").read_text(encoding="utf-8"))
    assert sorted([*index["files"], "index.json"]) == FILES


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_whatever_is_damaged_the_index_is_made_anew_and_that_is_said(
    name: str, damage: Callable[[Path], None], indexed: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = directory_of(indexed) / name
    if not path.exists():
        pytest.skip("version 0.1.0 did not write this file")
    if damage is lengthen and name != "index.json" and not (directory_of(indexed) / "verified.json").exists():
        pytest.skip("of version 0.1.0 only the content is known, which this does not change")
    damage(path)
    corpus = opened(indexed / "corpus", indexed / "cache")
    said = capsys.readouterr().err
    # A bit of an index.json or a .npy of version 0.1.0 may be one that says nothing.
    is_new = "is damaged and is made anew" in said
    assert is_new or (damage is flip and "damaged" not in said)
    if is_new:
        assert str(path.parent) in said
    assert everything(corpus) == everything(opened(whole / "corpus", whole / "cache"))
    capsys.readouterr()
    assert everything(opened(indexed / "corpus", indexed / "cache")) == everything(corpus)
    assert capsys.readouterr().err == ""


def test_a_bit_of_a_text_is_seen_however_small_the_corpus(indexed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory_of(indexed) / "texts.en.arrow"
    content = path.read_bytes()
    assert content.count(b"That 7.") == 1
    path.write_bytes(content.replace(b"That 7.", b"That 5."))
    corpus = opened(indexed / "corpus", indexed / "cache")
    assert "texts.en.arrow: other" in capsys.readouterr().err
    assert contents(corpus)["en"]["7"] == ("What 7?", "That 7.")


def test_a_damaged_index_without_its_source_is_named_with_the_mend(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(directory_of(whole), tmp_path / "index")
    assert ParallelCorpus(tmp_path / "index", name="c").num_examples == 20
    cut(tmp_path / "index" / "ids.arrow")
    with pytest.raises(UserError, match=r"ids\.arrow: \d+ bytes, \d+ were written: .* remove .*index, and it is made"):
        ParallelCorpus(tmp_path / "index", name="c")
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(UserError, match=r"index\.json: cannot be read \(No such file"):
        ParallelCorpus(tmp_path / "index", name="c")


def test_an_index_is_read_whole_once_after_it_was_copied_and_never_where_it_was_made(
    indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(indexed / "corpus", indexed / "cache")
    read: list[str] = []
    describe_file = integrity.describe_file
    monkeypatch.setattr(
        integrity, "describe_file", lambda path, bar: read.append(path.name) or describe_file(path, bar)
    )
    opened(indexed / "corpus", indexed / "cache")
    assert read == []
    shutil.copytree(indexed / "cache", indexed / "copy")
    before = everything(opened(indexed / "corpus", indexed / "cache"))
    assert everything(opened(indexed / "corpus", indexed / "copy")) == before
    assert sorted(read) == [name for name in FILES if name != "index.json"]
    opened(indexed / "corpus", indexed / "copy")
    assert len(read) == len(FILES) - 1


def test_an_index_of_version_0_1_0_stays_as_it_is(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "corpus", tmp_path / "corpus")
    corpus = opened(tmp_path / "corpus", tmp_path / "cache")
    expected = everything(corpus)
    as_version_0_1_0_left_it(corpus.directory)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in corpus.directory.iterdir()}
    again = opened(tmp_path / "corpus", tmp_path / "cache")
    assert everything(again) == expected
    assert again.directory == corpus.directory
    now = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in corpus.directory.iterdir()}
    assert before.items() <= now.items()
    assert sorted(now.keys() - before.keys()) == ["adopted.json", "equal-questions.de.npy", "verified.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_an_index_in_a_folder_that_is_only_read_is_opened(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy", copy_function=shutil.copy2)
    directory = directory_of(tmp_path / "copy")
    directory.chmod(0o555)
    try:
        assert ParallelCorpus(directory, name="c").num_examples == 20
    finally:
        directory.chmod(0o755)


@pytest.mark.parametrize("damage", [empty, blank, cut, Path.unlink])
@pytest.mark.parametrize("name", ["verified.json", "adopted.json"])
def test_notes_beside_an_index_that_cannot_be_read_are_made_again(
    name: str, damage: Callable[[Path], None], indexed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = everything(opened(indexed / "corpus", indexed / "cache"))
    path = directory_of(indexed) / name
    if not path.exists():
        pytest.skip("only of version 0.1.0")
    damage(path)
    assert everything(opened(indexed / "corpus", indexed / "cache")) == expected
    assert "damaged" not in capsys.readouterr().err
