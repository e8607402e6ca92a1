"""The record of a run against the files that it is made of."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.settings.per_query import read_query_tables
from hybatch.models.config import EncoderConfig
from hybatch.reporting.grids.record_file import read_record_file
from hybatch.reporting.grids.records import QUESTION_FIGURES, ids_digest
from hybatch.reporting.results import PairResults, read_results
from hybatch.sampling import SamplingConfig, ShareSchedule
from hybatch.training.config import RunConfig, load_run_config
from study.questions import question_tables
from study.record import backbone_sha256, changed_fields, chosen, main, sampling_name
from tests.study.tiny_study import CROSS, HYBRID, TinyStudy, files
from tests.training.small_run import read_metrics, write_config


def config_with(tmp_path: Path, *options: str) -> RunConfig:
    return load_run_config(["--config", str(write_config(tmp_path)), *options])


@pytest.mark.parametrize(
    ("sampling", "name", "alpha"),
    [
        (SamplingConfig(kind="hybrid", alpha=0.25), "hybrid", 0.25),
        (SamplingConfig(kind="hybrid", mixture={"x-y": 0.75, "x-x-mono": 0.25}), "hybrid", 0.25),
        (SamplingConfig(kind="hybrid", mixture={"x-y": 1.0}), "hybrid", 0.0),
        (SamplingConfig(kind="hybrid", alpha=ShareSchedule(start=1.0, end=0.0)), "hybrid-scheduled", None),
        (SamplingConfig(kind="x-y", alpha=ShareSchedule(start=1.0, end=0.0)), "x-y", None),
        (SamplingConfig(kind="hybrid", mixture={"x-en": 0.4, "x-y": 0.6}), "hybrid x-y 0.6, x-en 0.4", None),
        (
            SamplingConfig(
                kind="hybrid",
                mixture={"x-en": ShareSchedule(start=1, end=0), "x-y": ShareSchedule(start=0, end=1)},
            ),
            "hybrid x-y 0 to 1, x-en 1 to 0",
            None,
        ),
        (SamplingConfig(kind="sequential"), "sequential", None),
        (SamplingConfig(kind="sequential", share=0.25), "sequential x-x-mono 0.25, x-y 0.75", None),
    ],
)
def test_samplings_of_other_shares_are_called_by_them(sampling: SamplingConfig, name: str, alpha: float | None) -> None:
    assert sampling_name(sampling) == (name, alpha)


@pytest.mark.parametrize(
    ("options", "step", "value"),
    [
        ([], 2, 1.0),
        (["--validation.select_after_share", "0.5"], 8, 2.0),
        (["--validation.metric", "map"], 4, 3.0),
    ],
)
def test_the_chosen_step_is_the_one_that_training_chose(
    options: list[str], step: int, value: float, tmp_path: Path
) -> None:
    config = config_with(tmp_path, "--training.steps", "8", *options)
    rows = [{"step": 1, "kind": "x-y", "loss": 0.1}]
    rows += [
        {"step": at, "validation": {"selection": figure}} for at, figure in ((2, 1.0), (4, 3.0), (6, 2.5), (8, 2.0))
    ]
    best = chosen(config, rows)
    assert (best.step, best.value) == (step, value)


def test_other_corpora_are_a_change_of_the_configuration_and_other_places_of_its_output_are_not(tmp_path: Path) -> None:
    before = config_with(tmp_path).as_dict()
    assert changed_fields(before, config_with(tmp_path, "--output_dir", "elsewhere", "--training.threads", "2")) == []
    config = config_with(tmp_path)
    config.corpora[0].path = "other"
    config.loss.temperature = 0.5
    names = [line.split(":")[0] for line in changed_fields(before, config)]
    assert names == ["loss.temperature", "corpora.0.path"]


@pytest.mark.parametrize("came_to", ["bf16", "no"])
def test_a_run_is_one_of_auto_whichever_precision_it_came_to(came_to: str, tmp_path: Path) -> None:
    option = "--training.mixed_precision"
    before = config_with(tmp_path, option, came_to).as_dict()
    assert changed_fields(before, config_with(tmp_path, option, "auto")) == []
    other = "no" if came_to == "bf16" else "bf16"
    changed = f"training.mixed_precision: was {came_to!r}, now {other!r}"
    assert changed_fields(before, config_with(tmp_path, option, other)) == [changed]


def test_a_run_without_validation_has_chosen_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"validation\.corpora"):
        chosen(config_with(tmp_path), [{"step": 1, "kind": "x-y", "loss": 0.1}])


def test_a_backbone_is_known_by_the_hash_of_its_weights_wherever_a_variable_says_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_with(tmp_path)
    assert backbone_sha256(config) is None
    config.model = EncoderConfig(backbone="$HYBATCH_BACKBONES/tiny")
    monkeypatch.delenv("HYBATCH_BACKBONES", raising=False)
    with pytest.raises(UserError, match="HYBATCH_BACKBONES is not set"):
        backbone_sha256(config)
    monkeypatch.setenv("HYBATCH_BACKBONES", str(tmp_path))
    (tmp_path / "tiny").mkdir()
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        backbone_sha256(config)
    (tmp_path / "tiny" / "model.safetensors").write_bytes(b"weights")
    assert backbone_sha256(config) == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.slow
def test_a_record_says_what_the_run_was(finished_study: TinyStudy) -> None:
    hybrid, cross = (read_record_file(finished_study.record(name)) for name in (HYBRID, CROSS))
    weights = Path(finished_study.environment["HYBATCH_BACKBONES"]) / "tiny" / "model.safetensors"
    for run, name, sampling, alpha in ((hybrid, HYBRID, "hybrid", 0.5), (cross, CROSS, "x-y", None)):
        assert (run.name, run.start) == (name, "tiny")
        assert (run.sampling, run.alpha, run.seed) == (sampling, alpha, 1)
        assert run.backbone_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert run.config["output_dir"] == f"runs/{name}"
        assert run.steps == run.config["training"]["steps"] == 40
        assert re.fullmatch(r"[0-9a-f]{40}\+?", run.commit or "")
        assert {"python", "torch", "hybatch"} <= run.versions.keys()
    never = {"ar", "el", "hi", "ru", "th", "tr", "vi", "zh"}
    assert set(hybrid.unseen_languages) == never
    assert set(cross.unseen_languages) == never | {"es"}


@pytest.mark.slow
def test_the_curve_of_a_record_is_the_losses_and_validations_of_the_run(finished_study: TinyStudy) -> None:
    for name in (HYBRID, CROSS):
        full, run = read_metrics(finished_study.runs / name), read_record_file(finished_study.record(name))
        losses = [
            {"step": row["step"], "kind": row["kind"], "loss": row["loss"]} for row in full if "validation" not in row
        ]
        validations = [{"step": row["step"], "validation": row["validation"]} for row in full if "validation" in row]
        assert list(run.curve) == [*losses, *validations]
        selections = {row["step"]: row["validation"]["selection"] for row in validations}
        assert run.chosen_step == min(selections, key=selections.__getitem__)
        assert run.selection_loss == selections[run.chosen_step]


@pytest.mark.slow
def test_the_results_of_a_record_are_those_of_the_best_encoder_and_its_questions_average_to_them(
    finished_study: TinyStudy,
) -> None:
    for name in (HYBRID, CROSS):
        evaluation = finished_study.runs / name / "evaluation" / "embedded"
        run = read_record_file(finished_study.record(name))
        results, expected = run.results["embedded"], read_results(evaluation / "results.json")
        assert isinstance(results, PairResults)
        assert isinstance(expected, PairResults)
        recorded = dataclasses.replace(expected, top_languages=None, language_bias=None, ties={})
        assert dataclasses.asdict(results) == dataclasses.asdict(recorded)
        assert results.model == f"runs/{name}/best"
        tables = question_tables(read_query_tables(evaluation / "per_query.npz"))
        questions = run.questions["embedded"]
        assert questions.ids_sha256 == ids_digest(tables["ids"].tolist())
        for column in QUESTION_FIGURES:
            np.testing.assert_array_equal(getattr(questions, column), tables[column])
        # Every question of this task is asked in every language, so that here the order of the means does not matter.
        for setting in ("monolingual", "cross_lingual", "multilingual"):
            mean = getattr(questions, setting).mean(dtype=np.float64)
            assert mean == pytest.approx(results.summary[setting]["map"], 1e-5)
        distance = results.summary["multilingual"]["rank_distance"]
        assert questions.rank_distance.mean(dtype=np.float64) == pytest.approx(distance, 1e-5)


@pytest.mark.slow
def test_runs_that_arrays_have_trained_and_evaluated_are_recorded_alike(
    finished_study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = finished_study.finished_in(tmp_path / "arrays")
    study.enter(monkeypatch)
    for name in (HYBRID, CROSS):
        (study.folder / "evaluations").mkdir(exist_ok=True)
        (study.runs / name / "evaluation").rename(study.folder / "evaluations" / name)
    shutil.rmtree(study.results)
    options = ["grid.txt", "--runs", "runs", "--evaluations", "evaluations", "--results", "results"]
    assert main(options) == 0
    assert study.records() == finished_study.records()
    written = {path: path.stat().st_mtime_ns for path in study.results.rglob("*")}
    assert main(options) == 0
    assert {path: path.stat().st_mtime_ns for path in study.results.rglob("*")} == written

    shutil.rmtree(study.results)
    of_another = study.folder / "evaluations" / HYBRID / "embedded" / "results.json"
    of_another.write_text(of_another.read_text().replace(f"{HYBRID}/best", f"{HYBRID}/final"))
    shutil.rmtree(study.runs / CROSS / "final")
    assert main(options) == 1
    errors = capsys.readouterr().err
    assert f"results of runs/{HYBRID}/final, not of runs/{HYBRID}/best" in errors
    assert f"{CROSS}: runs/{CROSS}: the training is not finished" in errors
    assert not files(study.results)
