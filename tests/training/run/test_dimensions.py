"""A run whose embeddings can be cut short: what it logs and saves, that it repeats, and what it refuses at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybatch.cli import main as hybatch
from hybatch.models import Encoder
from hybatch.train import main
from tests.training.small_run import read_metrics, write_config

SHORT = {"steps": 4, "checkpoint_every_steps": 2, "chunk_size": 8, "warmup_steps": 0}


def _config(folder: Path, **loss: Any) -> Path:
    return write_config(folder, training=SHORT, loss={"temperature": 0.05, **loss})


def _validations(run: Path) -> list[dict[str, float]]:
    return [row["validation"] for row in read_metrics(run) if "validation" in row]


def test_each_width_is_logged_beside_the_sum_and_saved_and_a_resumed_run_repeats_it(
    tmp_path: Path,
) -> None:
    config = _config(tmp_path, dimensions=[32, 8, 2], dimension_weights=[1, 1, 0.5])
    assert main(["--config", str(config)]) == 0
    run = tmp_path / "run"
    rows = [row for row in read_metrics(run) if "loss" in row]
    assert len(rows) == 4
    for row in rows:
        assert row["loss"] == pytest.approx(row["loss_32"] + row["loss_8"] + row["loss_2"] / 2, rel=1e-5)
        assert len({row["loss_32"], row["loss_8"], row["loss_2"]}) == 3
    assert json.loads((run / "final" / "hybatch.json").read_text(encoding="utf-8"))["dimensions"] == [32, 8, 2]
    assert Encoder.load(run / "final").dimensions == (32, 8, 2)
    assert Encoder.load(run / "initial").dimensions == ()
    for folder in ("final", "checkpoints/step-00000004"):
        shutil.rmtree(run / folder)
    assert main(["--config", str(config)]) == 0
    again = [row for row in read_metrics(run) if "loss" in row]
    assert [[row[name] for name in ("loss", "loss_8", "loss_2")] for row in again] == [
        [row[name] for name in ("loss", "loss_8", "loss_2")] for row in rows
    ]


def test_all_dimensions_alone_train_and_validate_as_without_the_option(tmp_path: Path) -> None:
    config = _config(tmp_path, dimensions=[32])
    assert main(["--config", str(config)]) == 0
    assert main(["--config", str(config), "--loss.dimensions", "null", "--output_dir", str(tmp_path / "plain")]) == 0
    nested, plain = ([row["loss"] for row in read_metrics(tmp_path / run) if "loss" in row] for run in ("run", "plain"))
    assert nested == plain
    assert _validations(tmp_path / "run") == _validations(tmp_path / "plain")
    assert not any(name.startswith("loss_") for row in read_metrics(tmp_path / "plain") for name in row)
    written = json.loads((tmp_path / "plain" / "final" / "hybatch.json").read_text(encoding="utf-8"))
    assert written.keys() == {"hybatch", "encoder"}


@pytest.mark.parametrize("command", ["train", "plan"])
def test_dimensions_of_another_width_are_refused_before_a_corpus_is_read(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(tmp_path, dimensions=[64, 8])
    shutil.rmtree(tmp_path / "train")
    start = main if command == "train" else lambda options: hybatch(["plan", *options])
    assert start(["--config", str(config)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "loss.dimensions is [64, 8], but the embeddings are 32 wide: 32 must stand first, then fewer" in error
    assert start(["--config", str(config), "--model.head", "dense", "--model.head_size", "8"]) == 2
    assert "but the embeddings are 8 wide" in " ".join(capsys.readouterr().err.split())


def test_impossible_options_are_named_on_the_command_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(tmp_path)
    for option, value, message in (
        ("dimensions", "[32, 32]", "loss.dimensions is [32, 32]: each must be less than the one before it"),
        ("dimensions", "[32, 0]", "loss.dimensions.1 is 0: it must be a whole number from 1 to"),
        ("dimension_weights", "[1, 1]", "loss.dimension_weights is given without loss.dimensions"),
    ):
        assert main(["--config", str(config), f"--loss.{option}", value]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_the_options_stand_in_the_run_s_own_configuration(tmp_path: Path) -> None:
    config = _config(tmp_path, dimensions=[32, 4])
    assert main(["--config", str(config), "--training.steps", "1"]) == 0
    own = tmp_path / "run" / "config.yaml"
    assert yaml.safe_load(own.read_text(encoding="utf-8"))["loss"]["dimensions"] == [32, 4]
    assert main(["--config", str(own)]) == 0
    assert main(["--config", str(own), "--loss.dimensions", "[32, 8]"]) == 2
