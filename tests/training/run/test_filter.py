"""Runs that keep candidates out: what they log, by their own scores and by a guide's, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybatch.train import main
from tests.training.small_run import losses, read_metrics, write_config

MIXED = {"batch_size": 16, "mixture": {"x-x-mono": 0.3, "x-y": 0.4, "bitext": 0.3}}


def _config(folder: Path, **loss: Any) -> Path:
    training = {"steps": 6, "checkpoint_every_steps": 6, "chunk_size": 6}
    return write_config(folder, sampling=MIXED, training=training, loss={"temperature": 0.05, **loss})


def test_what_was_kept_out_is_logged_for_every_batch_and_a_guide_decides_the_same_in_every_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBATCH_CACHE_DIR", str(tmp_path / "cache"))
    own = _config(tmp_path, filter={"by": "self", "margin": 0.0})
    assert main(["--config", str(own)]) == 0
    rows = [row for row in read_metrics(tmp_path / "run") if "loss" in row]
    # An encoder that has learnt nothing finds many candidates nearer than the positive; of 16 x 15 never all.
    assert all(0 < row["kept_out"] < 240 for row in rows)
    assert len({row["kind"] for row in rows}) > 1
    guided = _config(tmp_path, filter={"by": "guide", "ratio": 0.9}, guide=str(tmp_path / "run" / "final"))
    arguments = ["--config", str(guided), "--output_dir"]
    for name in ("guided", "again"):
        assert main([*arguments, str(tmp_path / name)]) == 0
    found, again = (read_metrics(tmp_path / name) for name in ("guided", "again"))
    counts = [row["kept_out"] for row in found if "loss" in row]
    assert counts == [row["kept_out"] for row in again if "loss" in row]
    assert any(counts)
    assert losses(tmp_path / "guided") == losses(tmp_path / "again") != losses(tmp_path / "run")


def test_a_limit_that_nothing_reaches_changes_nothing(tmp_path: Path) -> None:
    config = _config(tmp_path, filter={"margin": 2.0})
    assert main(["--config", str(config)]) == 0
    assert main(["--config", str(config), "--loss.filter", "null", "--output_dir", str(tmp_path / "plain")]) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "plain")
    assert {row["kept_out"] for row in read_metrics(tmp_path / "run") if "loss" in row} == {0}


def test_a_guide_that_does_not_load_is_refused_before_anything_is_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYBATCH_CACHE_DIR", str(tmp_path / "cache"))
    config = _config(tmp_path, filter={"by": "guide"}, guide=str(tmp_path / "nowhere"))
    assert main(["--config", str(config)]) == 2
    assert f"{tmp_path / 'nowhere'}: there is no such folder" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
