"""The runner of a study: from a grid to its records, whatever comes between."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from hybatch.training.flat import flatten
from study.run_grid import main
from tests.study.tiny_study import CROSS, HYBRID, TinyStudy, files, write_backbone

NAMES = [HYBRID, CROSS]


def signal_when(process: subprocess.Popen[str], number: signal.Signals, condition: Callable[[], bool]) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.01)
    process.send_signal(number)


def test_a_dry_run_says_what_is_left_and_does_nothing(
    planned_study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = planned_study.inputs_in(tmp_path / "dry")
    study.enter(monkeypatch)
    before = files(study.folder)
    assert main(study.options("--dry-run")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{name}: train, evaluate embedded, record (no record)" for name in NAMES]
    assert main(study.options("--dry-run", "--only", "^x-y")) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert files(study.folder) == before


@pytest.mark.parametrize(
    ("grid", "options", "words"),
    [
        ("hybrid tiny.yaml\n", [], "grid.txt:1: expected SAMPLER"),
        ("hybrid tiny.yaml 1\n", ["--only", "nothing"], "no run of grid.txt"),
        ("hybrid tiny.yaml 1\nhybrid tiny.yaml 2 bad.yaml\n", [], "training.steps"),
        ("hybrid tiny.yaml 1 blind.yaml\n", [], "validation.corpora is empty"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_run(
    grid: str,
    options: list[str],
    words: str,
    planned_study: TinyStudy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = planned_study.inputs_in(tmp_path / "bad")
    study.enter(monkeypatch)
    (study.folder / "bad.yaml").write_text("training: {steps: -1}\n", encoding="utf-8")
    (study.folder / "blind.yaml").write_text("validation: {corpora: []}\n", encoding="utf-8")
    (study.folder / "grid.txt").write_text(grid, encoding="utf-8")
    assert main(study.options(*options)) == 2
    assert words in capsys.readouterr().err
    assert not study.runs.exists()


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        (None, "over.yaml"),
        ("training: [\n", "over.yaml is not YAML"),
        ("", "over.yaml holds no options"),
        ("training: {mixed_precision: fp8}\n", "training.mixed_precision is 'fp8'.*over.yaml"),
    ],
)
def test_a_recipe_laid_over_another_that_cannot_be_read_is_named(
    overlay: str | None,
    words: str,
    planned_study: TinyStudy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = planned_study.inputs_in(tmp_path / "over")
    study.enter(monkeypatch)
    if overlay is not None:
        (study.folder / "over.yaml").write_text(overlay, encoding="utf-8")
    assert main(study.options("--dry-run", "--recipe", "config.yaml", "over.yaml")) == 2
    assert re.search(words, capsys.readouterr().err)


def test_a_run_without_its_backbone_fails_by_name_and_removes_nothing(
    planned_study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = planned_study.inputs_in(tmp_path / "bare")
    study.enter(monkeypatch)
    earlier = study.runs / HYBRID / "config.yaml"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("seed: 7\n", encoding="utf-8")
    monkeypatch.delenv("HYBATCH_BACKBONES")
    assert main(study.options()) == 1
    assert re.findall("^failed: ([^:]*): .*HYBATCH_BACKBONES is not set", capsys.readouterr().err, re.M) == NAMES
    assert earlier.exists()


@pytest.mark.slow
def test_a_finished_study_keeps_records_and_encoders_and_nothing_big(finished_study: TinyStudy) -> None:
    assert finished_study.records().keys() == {f"{name}.record.json" for name in NAMES}
    for name in NAMES:
        kept = {path.name for path in (finished_study.runs / name).iterdir() if not path.name.startswith(".")}
        assert kept == {"best", "final", "evaluation", "config.yaml", "metrics.jsonl"}


@pytest.mark.slow
def test_the_same_command_again_leaves_a_finished_study_alone(
    finished_study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = finished_study.finished_in(tmp_path / "again")
    study.enter(monkeypatch)
    assert main(study.options()) == 0
    assert capsys.readouterr().out.count(": complete") == 2
    kept = (files(one.runs) for one in (finished_study, study))
    before, after = ({name: one[name] for name in one if not name.startswith(".locks/")} for one in kept)
    assert after == before
    assert study.records() == finished_study.records()


@pytest.mark.slow
def test_a_lost_record_is_made_again_without_training_or_evaluating(
    finished_study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = finished_study.finished_in(tmp_path / "lost")
    study.enter(monkeypatch)
    study.record(HYBRID).unlink()
    record = json.loads(study.record(CROSS).read_text(encoding="utf-8"))
    study.record(CROSS).write_text(json.dumps(record | {"results": {}, "questions": {}}), encoding="utf-8")
    assert main(study.options()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"[1/2] {HYBRID}: record (no record)" in lines
    assert f"[2/2] {CROSS}: record (embedded is not recorded)" in lines
    assert study.records() == finished_study.records()


@pytest.mark.slow
def test_a_study_interrupted_and_killed_goes_on_and_ends_with_the_same_records(
    finished_study: TinyStudy, tmp_path: Path
) -> None:
    study = finished_study.inputs_in(tmp_path / "disturbed")
    hybrid, cross = (study.runs / name for name in NAMES)
    disturbances: list[tuple[signal.Signals, Callable[[], bool]]] = [
        (signal.SIGINT, lambda: (hybrid / "metrics.jsonl").exists()),
        (signal.SIGTERM, lambda: (hybrid / "final").exists()),
        (signal.SIGKILL, lambda: (cross / "metrics.jsonl").exists()),
    ]
    for number, condition in disturbances:
        process = study.start()
        signal_when(process, number, condition)
        output, _ = process.communicate()
        if number != signal.SIGKILL:
            assert process.returncode == 128 + number, output
            assert output.endswith(f"stopped by {number.name}; the same command goes on\n")
            assert not [one for one in psutil.process_iter() if _works_in(one, study.folder)]
    exit_code, output = study.run()
    assert exit_code == 0, output
    assert study.records() == finished_study.records()


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd() == str(folder)
    except psutil.Error:
        return False


@pytest.mark.slow
def test_two_runners_share_the_grid(finished_study: TinyStudy, tmp_path: Path) -> None:
    study = finished_study.inputs_in(tmp_path / "shared")
    processes = [study.start(), study.start()]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    for name in NAMES:
        assert sum(output.count(f"{name}: train, evaluate embedded, record") for output in outputs) == 1
    assert all(any(f"{name}: train" in output for name in NAMES) for output in outputs)
    assert study.records() == finished_study.records()


@pytest.mark.slow
def test_a_run_that_fails_is_named_at_the_end_and_the_others_are_done(
    finished_study: TinyStudy, tmp_path: Path
) -> None:
    study = finished_study.finished_in(tmp_path / "failing")
    (study.folder / "huge.yaml").write_text("sampling: {batch_size: 1000000}\n", encoding="utf-8")
    grid = study.folder / "grid.txt"
    grid.write_text("hybrid tiny.yaml 1 huge.yaml\n" + grid.read_text(encoding="utf-8"), encoding="utf-8")
    exit_code, output = study.run()
    assert exit_code == 1
    assert "sampling.batch_size" in output
    assert output.endswith(
        "failed: hybrid--tiny--huge--seed1: training ended with exit code 2; its own words are above\n"
    )
    assert output.count(": complete") == 2


@pytest.mark.slow
def test_a_changed_configuration_or_backbone_is_not_skipped_but_trained_anew(
    finished_study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = finished_study.finished_in(tmp_path / "changed")
    study.enter(monkeypatch)
    write_backbone(tmp_path / "tiny", seed=5)
    monkeypatch.setenv("HYBATCH_BACKBONES", str(tmp_path))
    assert main(study.options("--dry-run")) == 0
    again = "train, evaluate embedded, record (the backbone's weights have changed)"
    assert capsys.readouterr().out.splitlines() == [f"{name}: {again}" for name in NAMES]
    # A run that was not trained here has nothing but its record to tell its backbone by.
    (study.runs / HYBRID / ".backbone.sha256").unlink()
    assert main(study.options("--dry-run", "--only", HYBRID)) == 0
    assert capsys.readouterr().out == f"{HYBRID}: {again}\n"

    recipe = study.folder / "config.yaml"
    config = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    config["loss"]["temperature"] = 0.1
    recipe.write_text(yaml.safe_dump(config), encoding="utf-8")
    exit_code, output = study.run("--only", CROSS)
    assert exit_code == 0, output
    assert "begins anew, runs/x-y--tiny--without-es--seed1 is removed: loss.temperature: was 0.05, now 0.1" in output
    before, now = (json.loads(one.record(CROSS).read_text(encoding="utf-8")) for one in (finished_study, study))
    assert flatten(now["config"])["loss.temperature"] == 0.1
    assert now["selection_loss"] != before["selection_loss"]
    assert study.records()[f"{HYBRID}.record.json"] == finished_study.records()[f"{HYBRID}.record.json"]
