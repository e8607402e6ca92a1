"""The accelerate configurations that the repository ships, and the program under them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from hybatch.models import Encoder
from hybatch.train import main
from hybatch.training.strategy.deepspeed.options import engine_options
from tests.training.small_run import losses, read_metrics, write_config

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "configs" / "accelerate"
NO_DROPOUT = {"fresh": {"width": 32, "layers": 2, "heads": 2, "vocabulary_size": 500, "dropout": 0.0}}
SHORT = {"steps": 6, "checkpoint_every_steps": 3, "chunk_size": 3}


def _launch(name: str, config: Path, *options: str) -> tuple[int, str]:
    launcher = [str(Path(sys.executable).parent / "accelerate"), "launch", "--main_process_port", "0"]
    launcher += ["--config_file", str(CONFIGS / f"{name}.yaml")]
    done = subprocess.run(
        [*launcher, "hybatch/train.py", "--config", str(config), *options],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "", "HF_HOME": str(config.parent / "hf")},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=500,
    )
    return done.returncode, done.stdout


def _last_figures(run: Path) -> dict[str, float]:
    """What the task's last measurement gave in the pool of its languages."""
    measured = [row["validation"] for row in read_metrics(run) if "validation" in row]
    return {name: value for name, value in measured[-1].items() if name.startswith("embedded/multilingual")}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_is_one_that_accelerate_reads_and_hybatch_takes(path: Path) -> None:
    load_config_from_file(str(path))
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["use_cpu"] is (path.stem in ("cpu", "cpu-ddp"))
    if content["distributed_type"] == "DEEPSPEED":
        file = ROOT / content["deepspeed_config"]["deepspeed_config_file"]
        given = json.loads(file.read_text(encoding="utf-8"))
        zero = engine_options(given, batch_size=8, processes=2, max_grad_norm=1.0)["zero_optimization"]
        assert f"zero{zero['stage']}" in path.stem
        assert ("offload_optimizer" in zero) is path.stem.endswith("offload")


@pytest.mark.slow
def test_a_zero_2_run_equals_one_process_and_goes_on_under_fsdp2_tasks_on_the_way_included(tmp_path: Path) -> None:
    task = {"task": "embedded", "languages": ["de", "en"], "every_steps": 6}
    config = write_config(tmp_path, model=NO_DROPOUT, training=SHORT, validation={"tasks": [task]})
    alone = ["--config", str(config), "--output_dir", str(tmp_path / "alone"), "--training.chunk_size", "null"]
    assert main(alone) == 0
    code, output = _launch("cpu-zero2", config, "--training.strategy", "zero2")
    assert code == 0, output
    run = tmp_path / "run"
    for (step, truth), (same_step, loss) in zip(losses(tmp_path / "alone"), losses(run), strict=True):
        assert step == same_step
        assert loss == pytest.approx(truth, rel=1e-3)
    assert read_metrics(run)[0]["grad_norm"] == pytest.approx(
        read_metrics(tmp_path / "alone")[0]["grad_norm"], rel=1e-5
    )
    before, figures = losses(run)[3:], _last_figures(run)
    assert figures == pytest.approx(_last_figures(tmp_path / "alone"), rel=0.02, abs=0.002)
    for folder in ("final", "checkpoints/step-00000006"):
        shutil.rmtree(run / folder)
    code, output = _launch("cpu-fsdp", config)
    assert code == 0, output
    assert "going on after step 3" in output
    assert losses(run)[3:] == [(step, pytest.approx(loss, rel=1e-3)) for step, loss in before]
    assert _last_figures(run) == pytest.approx(figures, rel=0.02, abs=0.002)
    encoder = Encoder.load(run / "final")
    assert encoder(encoder.tokenize(["red house"], "query")).shape == (1, 32)


@pytest.mark.slow
def test_a_zero_3_run_measures_map_on_the_way(tmp_path: Path) -> None:
    """Forward passes without gradient, outside of a step, as often on every process as on the others."""
    config = write_config(
        tmp_path,
        model=NO_DROPOUT,
        training={"steps": 4, "warmup_steps": 1, "chunk_size": None},
        validation={"metric": "map", "every_steps": 2, "examples": 35, "batch_size": 16},
    )
    runs = {"alone": tmp_path / "alone", "zero3": tmp_path / "run"}
    assert main(["--config", str(config), "--output_dir", str(runs["alone"])]) == 0
    code, output = _launch("cpu-zero3-offload", config)
    assert code == 0, output
    measured = {
        name: [row["validation"]["selection"] for row in read_metrics(run) if "validation" in row]
        for name, run in runs.items()
    }
    assert len(measured["zero3"]) == 2
    assert measured["zero3"] == pytest.approx(measured["alone"], abs=0.02)
    assert [loss for _, loss in losses(runs["zero3"])] == pytest.approx(
        [loss for _, loss in losses(runs["alone"])], rel=1e-3
    )


@pytest.mark.slow
def test_a_strategy_that_the_launcher_did_not_prepare_stops_every_process_before_the_run(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    code, output = _launch("cpu-zero2", config, "--training.strategy", "zero3")
    assert code != 0
    for process in ("error: ", "error (process 1): "):
        assert f"{process}training.strategy is zero3, but the launcher prepared zero2" in output
    assert "exitcode  : 2" in output
    assert not (tmp_path / "run").exists()
