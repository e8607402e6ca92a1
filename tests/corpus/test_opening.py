"""Opening: indexing once, caching, and what bad input and bad times get."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hybatch.corpus import CorpusConfig, ParallelCorpus, open_corpus
from hybatch.corpus.index.table import TableWriter
from hybatch.errors import UserError
from tests.corpus.layouts import OPEN, Row, contents, opened, write_jsonl, write_saved

ROWS: dict[str, list[Row]] = {
    "de": [{"id": "a", "question": "Wer?", "passage": "Er."}, {"id": "b", "question": "Was?", "passage": "Das."}],
    "en": [{"id": "a", "question": "Who?", "passage": "He."}, {"id": "b", "question": "What?", "passage": "That."}],
}


def many_rows(number: int) -> dict[str, list[Row]]:
    return {
        code: [{"id": str(i), "question": f"{code} {i}?", "passage": f"{code} {i % 977}."} for i in range(number)]
        for code in ("de", "en")
    }


def entries(cache_dir: Path) -> list[Path]:
    return [path for path in (cache_dir / "corpora").iterdir() if not path.name.endswith(".lock")]


def test_the_second_opening_reads_the_index_and_not_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_jsonl(tmp_path / "corpus", ROWS)
    first = opened(folder, tmp_path / "cache")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the index was written again")

    monkeypatch.setattr("hybatch.corpus.formats.entry.build_index", refuse)
    second = opened(folder, tmp_path / "cache", name="other", weight=3.0, query_prefix="q: ", passage_prefix="")
    assert second.directory == first.directory
    assert (first.name, second.name) == ("corpus", "other")
    assert contents(second) == contents(first)


def test_a_changed_source_is_indexed_again(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "corpus", ROWS)
    first = opened(folder, tmp_path / "cache")
    write_jsonl(folder, {"en": [{"id": "a", "question": "Who?", "passage": "She, as it is."}]})
    second = opened(folder, tmp_path / "cache")
    assert second.passages([0], [1]) == ["She, as it is."]
    assert second.fingerprint != first.fingerprint


def test_a_source_behind_links_to_folders_is_indexed_again_where_it_has_changed(tmp_path: Path) -> None:
    write_saved(tmp_path / "real", ROWS)
    (tmp_path / "corpus").mkdir()
    for code in ROWS:
        (tmp_path / "corpus" / code).symlink_to(tmp_path / "real" / code)
    (tmp_path / "corpus" / "loop").symlink_to(tmp_path / "corpus")
    assert opened(tmp_path / "corpus", tmp_path / "cache").passages([0], [1]) == ["He."]
    write_saved(tmp_path / "real", {"en": [{"id": "a", "question": "Who?", "passage": "She, as it is."}]})
    assert opened(tmp_path / "corpus", tmp_path / "cache").passages([0], [1]) == ["She, as it is."]


@pytest.mark.parametrize(
    ("write", "pattern"), [(write_jsonl, ""), (write_saved, ""), (write_jsonl, "/{language}.jsonl")]
)
def test_what_else_is_written_beside_the_files_of_a_corpus_leaves_its_index(
    write: Callable[[Path, dict[str, list[Row]]], Path], pattern: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "corpus", ROWS)
    first = opened(Path(f"{folder}{pattern}"), tmp_path / "cache")
    (folder / "runs").mkdir()
    (folder / "runs" / "metrics.jsonl").write_text("{}\n", encoding="utf-8")
    (folder / "notes.txt").write_text("of the corpus", encoding="utf-8")
    assert opened(Path(f"{folder}{pattern}"), tmp_path / "cache").directory == first.directory


def test_the_fingerprint_is_that_of_the_content_under_any_path(tmp_path: Path) -> None:
    first = opened(write_jsonl(tmp_path / "here", ROWS), tmp_path / "cache")
    second = opened(write_jsonl(tmp_path / "elsewhere" / "there", ROWS), tmp_path / "other cache")
    assert second.fingerprint == first.fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "b", "question": "Was?", "passage": "Dies."},
        {"id": "c", "question": "Was?", "passage": "Das."},
        {"id": "b", "question": "Was", "passage": "?Das."},
        {"id": "b", "passage": "Das."},
        {"id": "b", "question": "Was?", "passage": "Das.", "negatives": ["Er."]},
        {"id": "b", "question": "Was?", "passage": "Er."},
    ],
)
def test_the_fingerprint_changes_with_any_part_of_the_content(tmp_path: Path, changed: Row) -> None:
    first = opened(write_jsonl(tmp_path / "1", ROWS), tmp_path)
    second = opened(write_jsonl(tmp_path / "2", ROWS | {"de": [ROWS["de"][0], changed]}), tmp_path)
    assert second.fingerprint != first.fingerprint


def test_only_the_languages_asked_for_are_read(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "corpus", ROWS)
    (folder / "fr.jsonl").write_text("not JSON", encoding="utf-8")
    corpus = opened(folder, tmp_path, languages=["en"])
    assert corpus.languages == ("en",)
    assert corpus.questions([1], [0]) == ["What?"]


def test_variables_in_the_path_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "corpus", ROWS)
    monkeypatch.setenv("MY_TEXTS", str(tmp_path))
    assert opened("$MY_TEXTS/corpus", tmp_path).num_examples == 2
    monkeypatch.delenv("MY_TEXTS")
    with pytest.raises(UserError, match=r"\$MY_TEXTS is not set"):
        opened("$MY_TEXTS/corpus", tmp_path)
    with pytest.raises(UserError, match=r"\$\{MY_TEXTS\} is not set"):
        opened("${MY_TEXTS}/corpus", tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"languages": ["en", "fr"]},
            r"corpus/fr\.jsonl: no such file; `languages` asks for fr, the folder has de, en",
        ),
        ({"path": "no/such/folder"}, "no such folder, and no hub id"),
        ({"path": "/no/such", "format": "jsonl"}, "/no/such: no such folder"),
        ({"format": "squad"}, r"no <lang>\.json file in this folder"),
        ({"languages": []}, "no language found"),
    ],
)
def test_a_corpus_that_is_not_there_is_named(tmp_path: Path, settings: Row, message: str) -> None:
    settings = {"path": str(write_jsonl(tmp_path / "corpus", ROWS))} | settings
    with pytest.raises(UserError, match=message):
        open_corpus(CorpusConfig(**settings), cache_dir=tmp_path / "cache", progress=False)


def test_a_path_of_two_parts_is_taken_for_a_hub_id_only_where_its_first_is_no_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(tmp_path / "texts" / "train", ROWS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"texts/tarin: no such folder or file in texts/; mend the path"):
        opened("texts/tarin", tmp_path)
    with pytest.raises(
        UserError, match=r"text/train: is no folder or file here; of a data set of the hub nothing tells"
    ):
        opened("text/train", tmp_path)


@pytest.mark.parametrize(
    "path", ["./corpus/{language}.jsonl", ".//corpus/{language}.jsonl", "./saved", "saved/../saved"]
)
def test_a_path_from_the_working_folder_may_be_written_in_any_way(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(tmp_path / "corpus", ROWS)
    write_saved(tmp_path / "saved", ROWS)
    monkeypatch.chdir(tmp_path)
    assert opened(path, tmp_path / "cache").languages == ("de", "en")


def test_a_language_that_cannot_be_read_is_not_left_out_silently(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "corpus", ROWS)
    (folder / ".fr.jsonl").write_text("hidden files are no languages", encoding="utf-8")
    (folder / "en.jsonl.gz").write_bytes(b"packed beside the file that it was made from")
    assert opened(folder, tmp_path).languages == ("de", "en")
    (folder / "en.jsonl").unlink()
    with pytest.raises(UserError, match=r"corpus/en\.jsonl\.gz: is compressed; unpack it"):
        opened(folder, tmp_path)
    (folder / "en.jsonl.gz").unlink()
    (folder / "en.jsonl").symlink_to("elsewhere")
    with pytest.raises(UserError, match=r"corpus/en\.jsonl: is a link that points to nothing"):
        opened(folder, tmp_path)
    assert opened(folder, tmp_path, languages=["de"]).languages == ("de",)


def test_an_empty_folder_asks_for_its_format(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="name its `format`"):
        opened(tmp_path / "empty", tmp_path)


def test_a_folder_of_csv_files_is_told_how_to_name_them_and_gives_the_corpus_its_name(tmp_path: Path) -> None:
    (tmp_path / "faq").mkdir()
    for language in ("de", "en"):
        (tmp_path / f"faq/{language}.csv").write_text(
            f"id,question,passage\n1,{language}?,{language}.\n", encoding="utf-8"
        )
    with pytest.raises(UserError, match=r"a folder of \.csv files; .* give `path: .*/faq/\{language\}\.csv`"):
        opened(tmp_path / "faq", tmp_path)
    corpus = opened(tmp_path / "faq/{language}.csv", tmp_path)
    assert (corpus.name, corpus.languages) == ("faq", ("de", "en"))


def test_more_languages_than_mask_bits_are_refused(tmp_path: Path) -> None:
    rows = {f"l{k:02}": ROWS["de"] for k in range(65)}
    with pytest.raises(UserError, match="65 languages, at most 64"):
        opened(write_jsonl(tmp_path / "corpus", rows), tmp_path)


def test_sixty_four_languages_fit(tmp_path: Path) -> None:
    rows = {f"l{k:02}": ROWS["de"][k % 2 :] for k in range(64)}
    corpus = opened(write_jsonl(tmp_path / "corpus", rows), tmp_path)
    assert corpus.question_mask(slice(None)).tolist() == [0x5555555555555555, 2**64 - 1]


def test_bad_rows_leave_nothing_in_the_cache(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "corpus", ROWS | {"en": [{"id": "a"}]})
    with pytest.raises(UserError, match=r"en\.jsonl:1"):
        opened(folder, tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_a_full_disk_is_said_and_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TableWriter, "append", no_room)
    with pytest.raises(UserError, match="no room left for the index; set HYBATCH_CACHE_DIR"):
        opened(write_jsonl(tmp_path / "corpus", ROWS), tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_a_write_that_the_system_cuts_short_is_said_like_a_full_disk(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "corpus", many_rows(20_000))
    limit = (100_000, 100_000)
    done = subprocess.run(
        [sys.executable, "-B", "-c", OPEN, str(folder), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert "UserError" in done.stderr.splitlines()[-1]
    assert "no room left for the index" in done.stderr
    assert entries(tmp_path / "cache") == []


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"the index cannot be written .* set HYBATCH_CACHE_DIR"):
        opened(write_jsonl(tmp_path / "corpus", ROWS), tmp_path / "file" / "cache")
    with pytest.raises(UserError, match=r"the index cannot be written .* set HYBATCH_CACHE_DIR"):
        opened(write_jsonl(tmp_path / "corpus", ROWS), Path("/proc/no/such"))


def test_a_source_that_cannot_be_read_is_told_from_a_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_jsonl(tmp_path / "corpus", ROWS)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder / "de.jsonl"))

    monkeypatch.setattr("hybatch.corpus.formats.jsonl.JsonlSource.batches", refuse)
    with pytest.raises(UserError, match=r"de\.jsonl: cannot be read \(Permission denied\)"):
        opened(folder, tmp_path / "cache")


def test_processes_that_open_at_once_agree_and_index_once(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "corpus", many_rows(20_000))
    command = [sys.executable, "-c", OPEN, str(folder), str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(outputs) == 1
    assert outputs.pop().endswith(" 20000\n")
    assert len(entries(tmp_path / "cache")) == 1


def test_a_kill_while_indexing_leaves_nothing_that_a_later_opening_trips_on(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "corpus", many_rows(60_000))
    cache_dir = tmp_path / "cache"
    process = subprocess.Popen([sys.executable, "-c", OPEN, str(folder), str(cache_dir)])
    while not list(cache_dir.glob("corpora/.*.partial-*/texts.de.arrow")):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name[0] for path in entries(cache_dir)] == ["."]
    corpus = opened(folder, cache_dir)
    assert corpus.passages([59_999], [1]) == [f"en {59_999 % 977}."]
    assert entries(cache_dir) == [corpus.directory]


_MEASURE = """
import json, sys, time
from pathlib import Path
import numpy as np
import hybatch.corpus, hybatch.corpus.parallel
def anonymous():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon:"))
before = anonymous()
start = time.perf_counter()
corpus = hybatch.corpus.ParallelCorpus(Path(sys.argv[1]), name="")
rows = np.linspace(0, corpus.num_examples - 1, 1000).astype(np.int64)
texts = [corpus.questions(rows, rows % 2), corpus.passages(rows, rows % 2), corpus.ids(rows)]
groups = corpus.passage_groups(rows), corpus.question_mask(rows), corpus.passage_mask(rows)
print(json.dumps({"seconds": time.perf_counter() - start, "kilobytes": anonymous() - before}))
"""


@pytest.mark.slow
def test_five_million_rows_open_at_once_and_need_no_more_memory_than_few(tmp_path: Path) -> None:
    from hybatch.corpus.synthetic import synthetic_corpus

    measured = {}
    for number in (50_000, 5_000_000):
        directory = synthetic_corpus(tmp_path / str(number), num_examples=number).directory
        command = [sys.executable, "-c", _MEASURE, str(directory)]
        measured[number] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert measured[5_000_000]["seconds"] < 2
    assert measured[5_000_000]["kilobytes"] - measured[50_000]["kilobytes"] < 1024


def test_a_synthetic_corpus_is_a_corpus_like_any_other(tmp_path: Path) -> None:
    from hybatch.corpus.synthetic import synthetic_corpus

    corpus = synthetic_corpus(tmp_path / "s", num_examples=70_000, languages=["ru", "en"])
    assert isinstance(corpus, ParallelCorpus)
    assert corpus.languages == ("en", "ru")
    assert corpus.ids([69_999]) == [f"{69_999:08x}"]
    [question, passage] = corpus.questions([65_536], [1]) + corpus.passages([65_536], [0])
    assert question.startswith("ru question 00010000 ")
    assert passage.startswith("en passage 00010000 ")
    assert corpus.num_groups == 70_000
    assert os.path.getsize(tmp_path / "s" / "texts.en.arrow") < 70_000 * 180
