"""An index of a reader that did not know a field yet is compared with its source once, made anew where they differ."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybatch.corpus import ParallelCorpus
from hybatch.corpus.formats.entry import from_rows
from hybatch.corpus.formats.jsonl import JSONL, JsonlSource
from hybatch.corpus.formats.registry import FORMATS
from hybatch.corpus.index.integrity import checksum_of
from hybatch.corpus.rows import RowBatch
from hybatch.errors import UserError
from tests.corpus.layouts import OPEN, Row, opened, write_jsonl

PLAIN: dict[str, list[Row]] = {
    code: [{"id": f"{k}", "question": f"{code} {k}?", "passage": f"{code} {k}.", "negatives": ["!"]} for k in range(9)]
    for code in ("de", "en")
}
WITH_POSITIVES = PLAIN | {"de": [row | {"positives": [row["passage"], f"auch {row['id']}"]} for row in PLAIN["de"]]}
WITH_SCORES = PLAIN | {"en": [row | {"scores": [1.5, None]} for row in PLAIN["en"]]}
LATER = ("positives", "scores")


class OlderSource(JsonlSource):
    """Leaves alone what readers came to know later."""

    def batches(self, language: str) -> Iterator[RowBatch]:
        for batch in super().batches(language):
            yield replace(batch, **dict.fromkeys(LATER))


def note_nothing(directory: Path) -> None:
    """Take out of index.json what readers did not note before any of them learned a field."""
    path = directory / "index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    del index["fields"]
    path.write_text(json.dumps(index | {"checksum": checksum_of(index)}), encoding="utf-8")


@pytest.fixture(params=["notes its fields", "notes nothing"])
def made_before(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, list[Row]]], Path]:
    """Writes a corpus, indexes it into `cache` beside it as an older reader did, and returns its folder."""

    def make(rows: dict[str, list[Row]]) -> Path:
        folder = write_jsonl(tmp_path / "corpus", rows)
        build = from_rows(lambda config, path: OlderSource(Path(path), config.languages))
        with monkeypatch.context() as patch:
            patch.setitem(FORMATS, "jsonl", replace(JSONL, fields=JSONL.fields.difference(LATER), build=build))
            directory = opened(folder, tmp_path / "cache").directory
        if request.param == "notes nothing":
            note_nothing(directory)
        return folder

    return make


def everything(corpus: ParallelCorpus) -> Any:
    examples, bits = (grid.ravel() for grid in np.indices((corpus.num_examples, len(corpus.languages))))
    return (
        corpus.fingerprint,
        corpus.statistics,
        corpus.questions(examples, bits),
        corpus.passages(examples, bits),
        corpus.hard_negatives(examples, bits),
        corpus.has_positives,
        corpus.has_scores,
    )


@pytest.mark.parametrize("rows", [WITH_POSITIVES, WITH_SCORES])
def test_an_index_that_lacks_what_its_source_has_is_made_anew_once(
    rows: dict[str, list[Row]],
    made_before: Callable[[dict[str, list[Row]]], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = made_before(rows)
    corpus = opened(folder, tmp_path / "cache")
    assert "made by a reader without positives, scores; its source is read again" in capsys.readouterr().err
    assert everything(corpus) == everything(opened(folder, tmp_path / "fresh"))
    assert corpus.has_positives or corpus.has_scores
    _assert_not_read(folder, tmp_path / "cache", capsys)


def test_an_index_whose_source_has_no_such_field_is_compared_once_and_stays(
    made_before: Callable[[dict[str, list[Row]]], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made_before(PLAIN)
    [directory] = (tmp_path / "cache" / "corpora").glob("corpus-*")
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in directory.iterdir()}
    corpus = opened(folder, tmp_path / "cache")
    assert "its source is read again" in capsys.readouterr().err
    now = {path.name: (path.stat().st_ino, path.read_bytes()) for path in directory.iterdir()}
    assert before.items() <= now.items()
    assert now.keys() - before.keys() == {"adopted.json"}
    assert everything(corpus) == everything(opened(folder, tmp_path / "fresh"))
    _assert_not_read(folder, tmp_path / "cache", capsys)


def test_an_index_of_this_reader_is_not_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_jsonl(tmp_path / "corpus", WITH_POSITIVES)
    opened(folder, tmp_path / "cache")
    _assert_not_read(folder, tmp_path / "cache", capsys)


def test_an_index_of_a_reader_that_knew_more_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_jsonl(tmp_path / "corpus", PLAIN)
    with monkeypatch.context() as patch:
        patch.setitem(FORMATS, "jsonl", replace(JSONL, fields=JSONL.fields | {"rank"}))
        opened(folder, tmp_path / "cache")
    monkeypatch.setitem(FORMATS, "jsonl", replace(JSONL, build=_refuse))
    opened(folder, tmp_path / "cache")


def test_a_field_that_is_bad_is_named_and_the_older_index_stays(
    made_before: Callable[[dict[str, list[Row]]], Path], tmp_path: Path
) -> None:
    folder = made_before(PLAIN | {"de": [PLAIN["de"][0] | {"positives": 7}]})
    [directory] = (tmp_path / "cache" / "corpora").glob("corpus-*")
    before = sorted(directory.iterdir())
    with pytest.raises(UserError, match=r"de\.jsonl:1: positives is 7"):
        opened(folder, tmp_path / "cache")
    assert sorted(directory.iterdir()) == before
    assert list(directory.parent.glob(".*.partial-*")) == []


@pytest.mark.parametrize("rows", [PLAIN, WITH_POSITIVES])
def test_of_processes_that_open_it_at_once_one_reads_the_source(
    rows: dict[str, list[Row]], made_before: Callable[[dict[str, list[Row]]], Path], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", OPEN, str(made_before(rows)), str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    outputs, errors = zip(*(process.communicate() for process in processes), strict=True)
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    assert sum(text.count("its source is read again") for text in errors) == 1
    assert outputs[0].split()[0] == opened(tmp_path / "corpus", tmp_path / "fresh").fingerprint


def test_a_reader_that_does_not_declare_what_it_reads_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "jsonl", replace(JSONL, fields=JSONL.fields - {"scores"}))
    opened(write_jsonl(tmp_path / "plain", PLAIN), tmp_path / "cache")
    with pytest.raises(ValueError, match="rows have scores, which `fields` of the format lacks"):
        opened(write_jsonl(tmp_path / "scored", WITH_SCORES), tmp_path / "cache")


def _assert_not_read(folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FORMATS, "jsonl", replace(JSONL, build=_refuse))
        opened(folder, cache)
    assert capsys.readouterr().err == ""


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("the source was read again")
