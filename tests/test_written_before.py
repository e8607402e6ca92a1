"""What version 0.1.0 left on disk is read by the present code, and its run goes on (written_before/README.md)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hybatch.cli import main as hybatch
from hybatch.corpus import CorpusConfig, open_corpus
from hybatch.models import Encoder
from hybatch.train import main as train

WRITTEN = Path(__file__).parent / "written_before"
MADE_IN = Path("/tmp/hybatch-0.1.0")
CHANGED_AT = 1_700_000_000
"""Seconds: the time of change that make.sh gave to the files of the corpora."""
LANGUAGES = ["de", "en", "es"]
INDEXED: list[tuple[str, list[str] | None]] = [("corpus", None), ("held-out", None), ("held-out", LANGUAGES)]
"""Folder and `languages` of every index in the cache; `hybatch evaluate` names the languages, the run did not."""


def _index_name(name: str, languages: list[str] | None, parent: Path) -> str:
    """What version 0.1.0 called the index of a folder of <lang>.jsonl files below `parent`."""
    settings = {
        "path": str(parent / name),
        "name": "",
        "format": "jsonl",
        "split": "train",
        "columns": None,
        "languages": languages,
        "language_names": None,
        "subset": None,
        "revision": None,
        "parallel_ids": False,
        "judgements": None,
    }
    files = sorted((WRITTEN / name).iterdir())
    stamps = [(file.name, file.stat().st_size, CHANGED_AT * 10**9) for file in files]
    content = json.dumps([1, settings, stamps], sort_keys=True)
    return f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what was written, as it would stand had it been made there; the working folder."""
    place = tmp_path / "place"
    shutil.copytree(WRITTEN, place, symlinks=True)
    for folder in ("corpus", "held-out"):
        for file in (place / folder).iterdir():
            os.utime(file, (CHANGED_AT, CHANGED_AT))
    for name, languages in INDEXED:
        index = place / "cache" / "corpora" / _index_name(name, languages, MADE_IN)
        index.rename(index.with_name(_index_name(name, languages, place)))
    monkeypatch.chdir(place)
    monkeypatch.setenv("HYBATCH_CACHE_DIR", str(place / "cache"))
    return place


def _files(folder: Path) -> dict[str, tuple[int, str]]:
    """Time of change and digest of every file below a folder, but for locks and what today's code notes of an index."""
    return {
        str(file.relative_to(folder)): (file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest())
        for file in folder.rglob("*")
        if file.is_file() and file.suffix != ".lock" and file.name not in ("adopted.json", "verified.json")
    }


def test_every_index_has_the_name_that_its_source_gave_it() -> None:
    named = {_index_name(name, languages, MADE_IN) for name, languages in INDEXED}
    assert named == {path.name for path in (WRITTEN / "cache" / "corpora").iterdir()}


@pytest.mark.parametrize(("name", "languages"), INDEXED)
def test_an_index_is_opened_as_it_is_and_holds_what_an_index_made_today_holds(
    name: str, languages: list[str] | None, place: Path, tmp_path: Path
) -> None:
    before = _files(place / "cache")
    config = CorpusConfig(path=name, languages=languages)
    opened = open_corpus(config, progress=False)
    made = open_corpus(config, cache_dir=tmp_path / "today", progress=False)
    assert _files(place / "cache") == before
    assert opened.fingerprint == made.fingerprint
    assert (opened.languages, opened.statistics) == (made.languages, made.statistics)
    every = np.arange(made.num_examples)
    assert opened.ids(every) == made.ids(every)
    for table in ("passage_groups", "question_mask", "passage_mask"):
        assert np.array_equal(getattr(opened, table)(every), getattr(made, table)(every))
    for bit in range(len(made.languages)):
        with_question = np.flatnonzero(made.question_mask(every) >> np.uint64(bit) & np.uint64(1))
        with_passage = np.flatnonzero(made.passage_mask(every) >> np.uint64(bit) & np.uint64(1))
        for texts, rows in (
            ("questions", with_question),
            ("passages", with_passage),
            ("hard_negatives", with_passage),
            ("hard_negative_groups", with_passage),
        ):
            language = np.full(len(rows), bit)
            assert len(rows) > 0
            assert getattr(opened, texts)(rows, language) == getattr(made, texts)(rows, language)


def _rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _assert_same_rows(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    """The same batches; figures but for what another processor or another torch rounds elsewhere."""
    seconds = ("examples_per_second", "tflops")
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            if name not in seconds:
                assert other[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-3)), row


def _embeddings(folder: Path) -> torch.Tensor:
    encoder = Encoder.load(folder)
    texts = [f"{colour} {noun} {number}." for number, colour in enumerate(("rot", "blue")) for noun in ("Haus", "río")]
    with torch.no_grad():
        return torch.cat([encoder(encoder.tokenize(texts, role)) for role in ("query", "passage")])


def test_a_run_goes_on_from_its_checkpoint_to_where_a_whole_run_comes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpora, written = _files(place / "cache" / "corpora"), (place / "run" / "metrics.jsonl").read_bytes()
    assert train(["--config", "run.yaml"]) == 0
    assert "going on after step 7" in capsys.readouterr().out
    # What was written before there was a choice began with padding, and dropout is drawn for it.
    assert train(["--config", "run.yaml", "--output_dir", "whole", "--model.unpad", "never"]) == 0
    # Beside them may lie what `auto` found of this machine's backends, if it was quiet enough to tell.
    assert _files(place / "cache" / "corpora") == corpora
    assert (place / "run" / "metrics.jsonl").read_bytes().startswith(written)
    steps = [row["step"] for row in _rows(place / "run") if "loss" in row]
    assert steps == list(range(1, 13))
    _assert_same_rows(_rows(place / "run"), _rows(place / "whole"))
    for name in ("best", "final"):
        ours, theirs = _embeddings(place / "run" / name), _embeddings(place / "whole" / name)
        assert torch.allclose(ours, theirs, atol=1e-3)
    assert not torch.allclose(_embeddings(place / "run" / "final"), _embeddings(place / "run" / "initial"), atol=0.1)


def test_a_run_goes_on_with_the_configuration_that_it_wrote(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["--config", "run/config.yaml", "--training.checkpoint_every_steps", "5"]) == 0
    assert "going on after step 7" in capsys.readouterr().out
    # The finished run is still the same run.
    assert train(["--config", "run.yaml"]) == 0
    assert "holds the finished run" in capsys.readouterr().out


def test_a_fresh_encoder_has_the_weights_and_the_vocabulary_that_its_seed_gave_it(place: Path) -> None:
    assert train(["--config", "run.yaml", "--output_dir", "anew", "--training.steps", "2"]) == 0
    for weights in ("model.safetensors", "2_Dense/model.safetensors"):
        before, now = (load_file(place / run / "initial" / weights) for run in ("run", "anew"))
        assert before.keys() == now.keys()
        for name, tensor in before.items():
            assert torch.allclose(now[name], tensor, rtol=1e-4, atol=1e-7), name
    before, now = (Encoder.load(place / run / "initial") for run in ("run", "anew"))
    assert before.tokenizer.get_vocab() == now.tokenizer.get_vocab()
    assert before.config == now.config


def _figures(folder: Path) -> dict[str, Any]:
    """The results but for what computed them."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return {name: value for name, value in results.items() if name not in ("versions", "backend", "data_digest")}


@pytest.mark.parametrize(
    ("name", "task", "data"),
    [("one", "parallel", "held-out"), ("other", "parallel", "held-out"), ("sentences", "tatoeba", "sentences")],
)
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_the_same_embeddings_give_the_same_results_to_the_last_digit(
    name: str, task: str, data: str, backend: str, place: Path
) -> None:
    arguments = ["--task", task, "--data-dir", data, "--embeddings", f"embeddings/{name}", "--backend", backend]
    before = _files(place / "cache")
    assert hybatch(["evaluate", *arguments, "--output", "again"]) == 0
    assert _files(place / "cache") == before
    figures, before_figures = _figures(place / "again"), _figures(place / "results" / name)
    assert json.dumps({key: figures[key] for key in before_figures}) == json.dumps(before_figures)
    assert figures.keys() - before_figures.keys() <= {"language_bias"}
    with np.load(place / "again" / "per_query.npz") as now, np.load(f"results/{name}/per_query.npz") as then:
        assert then.keys() <= now.keys()
        for table in then:
            assert now[table].dtype == then[table].dtype
            np.testing.assert_array_equal(now[table], then[table])


def test_results_of_the_same_embeddings_may_still_be_replaced(place: Path) -> None:
    arguments = ["--task", "parallel", "--data-dir", "held-out", "--output", "results/one"]
    assert hybatch(["evaluate", *arguments, "--embeddings", "embeddings/other"]) == 2
    assert hybatch(["evaluate", *arguments, "--embeddings", "embeddings/one"]) == 0


def test_results_are_compared_as_before(place: Path) -> None:
    assert hybatch(["compare", "results/one", "results/other", "--output", "again"]) == 0
    for name in ("comparison.json", "comparison.csv", "comparison.md"):
        assert (place / "again" / name).read_text("utf-8") == (place / "comparison" / name).read_text("utf-8")


def test_results_and_the_curve_of_a_run_are_reported(place: Path) -> None:
    assert hybatch(["report", "run", "results", "--output", "report"]) == 0
    page = (place / "report" / "report.md").read_text(encoding="utf-8")
    summary = json.loads((place / "results" / "one" / "results.json").read_text(encoding="utf-8"))["summary"]
    assert f"{100 * summary['multilingual']['map']:.1f}" in page or f"{summary['multilingual']['map']:.4f}" in page
    for word in ("tatoeba", "parallel", "run"):
        assert word in page
