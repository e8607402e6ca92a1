"""A run that learns from a teacher's scores: what it logs and says, and what it refuses before it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybatch.train import main
from tests.training.small_run import losses, read_metrics, write_config

TAUGHT = {"temperature": 0.05, "hard_negatives": 1, "teacher": {"kind": "margin-mse", "weight": 0.5}}


def _config(folder: Path, loss: dict[str, Any], *, scores: bool) -> Path:
    """Every question has a hard negative in every language; in English nothing has a score."""
    training = {"steps": 6, "checkpoint_every_steps": 6}
    config = write_config(folder, sampling={"batch_size": 16, "kind": "x-x"}, training=training, loss=loss)
    for path in (folder / "train").glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for number, row in enumerate(rows):
            row["negatives"] = [f"{rows[number - 1]['passage']} !"]
            if scores and path.stem != "en":
                row["scores"] = [0.9, 0.2]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return config


def test_the_term_and_the_number_of_those_taught_are_logged_and_what_is_missing_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(tmp_path, TAUGHT, scores=True)
    assert main(["--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert said.count("300 of 900 passages and hard negatives have no score; loss.teacher leaves them out") == 1
    rows = [row for row in read_metrics(tmp_path / "run") if "loss" in row]
    assert all(0 < row["taught"] < 16 for row in rows)  # of three languages two
    assert all(row["loss"] > 0.5 * row["teacher"] > 0 for row in rows)
    without_weight = ["--loss.teacher.weight", "0", "--output_dir", str(tmp_path / "measured")]
    assert main(["--config", str(config), *without_weight]) == 0
    assert main(["--config", str(config), "--loss.teacher", "null", "--output_dir", str(tmp_path / "plain")]) == 0
    assert losses(tmp_path / "measured") == losses(tmp_path / "plain") != losses(tmp_path / "run")
    assert all(row["teacher"] > 0 for row in read_metrics(tmp_path / "measured") if "loss" in row)


def test_a_corpus_without_scores_is_refused_with_the_mend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(_config(tmp_path, TAUGHT, scores=False))]) == 2
    assert "no corpus has any: add them with hybatch score" in capsys.readouterr().err
