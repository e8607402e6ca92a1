"""mteb's tasks run on a saved encoder with its prompts, and their results stand in a report."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hybatch import cli
from hybatch.evaluation.results import read_any_results
from hybatch.models import Encoder
from hybatch.models.config import Role
from tests.evaluation.mteb.conftest import PASSAGES, QUERIES, save_encoder


def _run(model: Path, output: Path, *options: str) -> int:
    tasks = () if "--tasks" in options else ("--tasks", "LocalRetrieval", "LocalBitext")
    return cli.main(["mteb", "--model", str(model), "--output", str(output), "--device", "cpu", *tasks, *options])


def _scores(encoder: Encoder, rows: list[str], columns: list[str], column_role: Role) -> np.ndarray:
    """float64 [rows, columns] cosine similarities; `rows` are encoded as queries."""
    with torch.inference_mode():
        left, right = (
            encoder(encoder.tokenize(texts, role)) for texts, role in ((rows, "query"), (columns, column_role))
        )
    return left.double().numpy() @ right.double().numpy().T


def _ndcg(scores: np.ndarray) -> float:
    """nDCG of row i where column i alone is relevant, with as many columns as the cutoff."""
    ranks = 1 + (scores > np.diag(scores)[:, None]).sum(axis=1)
    return float(np.mean(1 / np.log2(1 + ranks)))


def test_the_figures_are_those_of_the_encoder_under_its_own_prefixes(
    tmp_path: Path, local_tasks: dict[str, int]
) -> None:
    encoder = save_encoder(tmp_path / "run" / "final")
    assert _run(tmp_path / "run" / "final", tmp_path / "out") == 0
    retrieval = read_any_results(tmp_path / "out" / "LocalRetrieval" / "results.json")
    expected = {x: _ndcg(_scores(encoder, QUERIES[x], PASSAGES[x], "passage")) for x in ("swh", "yor")}
    without = {x: _ndcg(_scores(encoder, QUERIES[x], PASSAGES[x], "query")) for x in ("swh", "yor")}
    assert expected != pytest.approx(without, abs=1e-4), "the prefixes must matter for this test to say anything"
    assert {x: row["ndcg_at_10"] for x, row in retrieval["figures"].items()} == pytest.approx(expected, abs=1e-5)
    assert retrieval["summary"]["mean"]["ndcg_at_10"] == pytest.approx(sum(expected.values()) / 2, abs=1e-5)
    bitext = read_any_results(tmp_path / "out" / "LocalBitext" / "results.json")
    scores = _scores(encoder, QUERIES["swh"], QUERIES["yor"], "query")
    accuracy = float(np.mean(scores.argmax(axis=1) == np.arange(len(scores))))
    assert bitext["figures"] == {"swh-yor": {"accuracy": pytest.approx(accuracy, abs=1e-5)}}


def test_results_land_in_the_report_and_in_mteb_s_own_form(tmp_path: Path, local_tasks: dict[str, int]) -> None:
    for seed, name in enumerate(("hybrid", "x-y")):
        save_encoder(tmp_path / name / "final", seed=seed)
        (tmp_path / name / "config.yaml").write_text("output_dir: somewhere\n")
        assert _run(tmp_path / name, tmp_path / "out" / name) == 0
    (own,) = (tmp_path / "out" / "hybrid" / "results" / "hybrid__final").glob("*/LocalRetrieval.json")
    rows = json.loads(own.read_text())["scores"]["test"]
    results = read_any_results(tmp_path / "out" / "hybrid" / "LocalRetrieval" / "results.json")
    assert {row["hf_subset"]: row["main_score"] for row in rows} == {
        language: row["ndcg_at_10"] for language, row in results["figures"].items()
    }
    report = ["report", str(tmp_path / "out" / "hybrid"), str(tmp_path / "out" / "x-y")]
    assert cli.main([*report, "--output", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.md").read_text()
    assert "mteb/LocalRetrieval: ndcg at 10 by language" in page
    assert "mteb/LocalBitext: means over 1 languages" in page
    assert "hybrid/final" in page
    assert "x-y/final" in page


def test_mteb_itself_reads_the_results_with_the_model_s_description(
    tmp_path: Path, local_tasks: dict[str, int]
) -> None:
    save_encoder(tmp_path / "run" / "final")
    assert _run(tmp_path / "run" / "final", tmp_path / "out") == 0
    mteb = importlib.import_module("mteb")
    tasks = [mteb.get_task(name) for name in local_tasks]
    (read,) = mteb.ResultCache(tmp_path / "out").load_results(tasks=tasks, require_model_meta=True).model_results
    assert read.model_name == "run/final"
    scores = {one.task_name: one.get_score() for one in read.task_results}
    assert set(scores) == set(local_tasks)
    for name, score in scores.items():
        results = read_any_results(tmp_path / "out" / name / "results.json")
        (mean,) = (value for key, value in results["summary"]["mean"].items() if key != "num_languages")
        assert score == pytest.approx(mean, abs=1e-5)
    (described,) = (tmp_path / "out" / "results").glob("*/*/model_meta.json")
    assert json.loads(described.read_text())["revision"] == read.model_revision


def test_what_was_measured_is_kept_and_a_changed_model_is_measured_again(
    tmp_path: Path, local_tasks: dict[str, int]
) -> None:
    model, output = tmp_path / "model", tmp_path / "out"
    save_encoder(model)
    assert _run(model, output) == 0
    file = output / "LocalRetrieval" / "results.json"
    first = file.read_bytes()
    file.unlink()
    assert _run(model, output) == 0
    assert local_tasks == {"LocalRetrieval": 1, "LocalBitext": 1}
    assert file.read_bytes() == first
    save_encoder(model, seed=1)
    assert _run(model, output) == 0
    assert local_tasks == {"LocalRetrieval": 2, "LocalBitext": 2}
    assert file.read_bytes() != first


def test_results_under_other_prompts_are_not_replaced_unasked(
    tmp_path: Path, local_tasks: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    model, output = tmp_path / "model", tmp_path / "out"
    save_encoder(model)
    assert _run(model, output) == 0
    file = output / "LocalRetrieval" / "results.json"
    first = file.read_bytes()
    assert "prefixes" not in json.loads(first)
    assert _run(model, output, "--query-prompt", "other: ") == 2
    assert "--output" in capsys.readouterr().err
    assert file.read_bytes() == first
    assert _run(model, output, "--query-prompt", "other: ", "--overwrite") == 0
    assert json.loads(file.read_text())["prefixes"] == {"query": "other: "}
    assert _run(model, output, "--query-prompt", "other: ") == 0
    assert _run(model, output) == 2


def test_a_file_of_mteb_cut_short_by_a_kill_is_measured_again(tmp_path: Path, local_tasks: dict[str, int]) -> None:
    save_encoder(tmp_path / "model")
    assert _run(tmp_path / "model", tmp_path / "out") == 0
    file = tmp_path / "out" / "LocalRetrieval" / "results.json"
    first = file.read_bytes()
    (own,) = (tmp_path / "out" / "results").glob("*/*/LocalRetrieval.json")
    own.write_bytes(own.read_bytes()[:100])
    file.unlink()
    assert _run(tmp_path / "model", tmp_path / "out") == 0
    assert local_tasks["LocalRetrieval"] == 2
    assert file.read_bytes() == first


def test_languages_cut_a_task_down(tmp_path: Path, local_tasks: dict[str, int]) -> None:
    save_encoder(tmp_path / "model")
    assert _run(tmp_path / "model", tmp_path / "out", "--tasks", "LocalRetrieval", "--languages", "yor") == 0
    results = read_any_results(tmp_path / "out" / "LocalRetrieval" / "results.json")
    assert results["languages"] == list(results["figures"]) == ["yor"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "LocalRetreival"], "no such task"),
        (["--tasks", "tatoeb"], "did you mean Tatoeba"),
        (["--tasks", "LocalRetrieval", "--languages", "fin"], "languages, which are swh yor"),
        (["--tasks", "LocalRetrieval", "--languages", "sw"], "ISO 639-3"),
        (["--tasks", "CIFAR10Clustering"], "the encoder reads texts"),
        (["--batch-size", "0"], "--batch-size is 0: it must be a whole number"),
    ],
)
def test_options_that_cannot_be_used_are_refused_before_any_data_is_loaded(
    tmp_path: Path,
    local_tasks: dict[str, int],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    save_encoder(tmp_path / "model")
    assert _run(tmp_path / "model", tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert local_tasks == {"LocalRetrieval": 0, "LocalBitext": 0}
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_fetched_is_said_with_the_task(
    tmp_path: Path, local_tasks: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    registered = importlib.import_module("mteb.get_tasks")._TASKS_REGISTRY["LocalRetrieval"]
    del registered.load_data
    save_encoder(tmp_path / "model")
    assert _run(tmp_path / "model", tmp_path / "out") == 2
    assert "--tasks LocalRetrieval: its data cannot be read or fetched" in capsys.readouterr().err


def test_a_model_that_names_no_prompts_needs_them_given(
    tmp_path: Path, local_tasks: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    save_encoder(tmp_path / "with")
    shutil.copytree(tmp_path / "with", tmp_path / "without")
    (tmp_path / "without" / "config_sentence_transformers.json").write_text("{}")
    bitext = ("--tasks", "LocalBitext")
    assert _run(tmp_path / "without", tmp_path / "out", *bitext) == 2
    assert "--query-prompt TEXT --passage-prompt TEXT" in capsys.readouterr().err
    assert local_tasks["LocalBitext"] == 0
    prompts = ("--query-prompt", "ask one: ", "--passage-prompt", "tell two: ")
    assert _run(tmp_path / "without", tmp_path / "out", *bitext, *prompts) == 0
    assert _run(tmp_path / "with", tmp_path / "reference", *bitext) == 0
    given, saved = (
        read_any_results(tmp_path / name / "LocalBitext" / "results.json")["figures"] for name in ("out", "reference")
    )
    assert given == saved


def test_results_of_another_model_are_not_replaced(
    tmp_path: Path, local_tasks: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "other"):
        save_encoder(tmp_path / name)
    assert _run(tmp_path / "one", tmp_path / "out") == 0
    assert _run(tmp_path / "other", tmp_path / "out") == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert _run(tmp_path / "other", tmp_path / "out", "--overwrite") == 0


def test_an_unfinished_run_is_refused_with_what_there_is(
    tmp_path: Path, local_tasks: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("output_dir: run\n")
    assert _run(tmp_path / "run", tmp_path / "out") == 2
    assert "without a final model" in capsys.readouterr().err


def test_where_mteb_is_missing_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    assert _run(tmp_path / "model", tmp_path / "out") == 2
    assert "pip install 'hybatch[mteb]'" in capsys.readouterr().err
