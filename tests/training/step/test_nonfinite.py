"""An update that is not finite is never applied; the batch is named; the run stops or goes on by policy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from hybatch.losses import LossTerms
from hybatch.train import main
from hybatch.training.step import engine
from hybatch.training.step.nonfinite import SkippedSteps
from tests.training.small_run import losses, read_metrics, write_config


def _spoil(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Make the gradients and the loss of some steps (counted from 1) NaN."""
    backward = engine.plain_backward

    def spoiled(strategy: Any, loss: Any, local: Any) -> LossTerms:
        value = backward(strategy, loss, local)
        if local.batch.step + 1 in steps:
            next(iter(strategy.encoder.parameters())).grad.view(-1)[0] = math.nan
            return value._replace(loss=value.loss * math.nan)
        return value

    monkeypatch.setattr(engine, "plain_backward", spoiled)


def test_the_run_stops_before_the_update_and_names_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, training={"steps": 12, "checkpoint_every_steps": 5}, validation={"corpora": []})
    assert main(["--config", str(config), "--output_dir", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as spoiling:
        _spoil(spoiling, 8)
        assert main(["--config", str(config)]) == 2
    error = capsys.readouterr().err
    kind = next(row["kind"] for row in read_metrics(tmp_path / "whole") if row["step"] == 8)
    for words in (f"step 8 ({kind}, train, ", "loss nan, gradient norm nan", "Examples e", "was not applied"):
        assert words in error
    assert main(["--config", str(config)]) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_skipped_steps_leave_the_weights_alone_and_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"steps": 12, "on_nonfinite": "skip", "max_skipped_steps": 3, "checkpoint_every_steps": 6}
    config = write_config(tmp_path, training=training, validation={"corpora": []})
    _spoil(monkeypatch, 5, 6, 9)
    assert main(["--config", str(config)]) == 0
    rows = read_metrics(tmp_path / "run")
    assert [row["step"] for row in rows if "skipped" in row] == [5, 6, 9]
    assert all(math.isfinite(loss) for _, loss in losses(tmp_path / "run"))
    assert "step 9 (" in capsys.readouterr().out
    _spoil(monkeypatch, 5, 6, 7)
    assert main(["--config", str(config), "--output_dir", str(tmp_path / "three")]) == 2
    assert "step 7 (" in capsys.readouterr().err


def test_an_interruption_does_not_restart_the_count() -> None:
    skipped = SkippedSteps("skip", limit=3)
    assert [skipped.take(loss, norm) for loss, norm in ((1.0, 1.0), (math.nan, 1.0), (1.0, math.inf))] == [0, 1, 1]
    resumed = SkippedSteps("skip", limit=3)
    resumed.in_a_row = skipped.in_a_row
    assert not resumed.too_many
    assert resumed.take(math.inf, math.nan)
    assert resumed.too_many
    assert not resumed.take(1.0, 1.0)
    assert resumed.in_a_row == 0
