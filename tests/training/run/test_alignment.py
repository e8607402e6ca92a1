"""A run with an alignment term: what it logs, that it repeats, and what it refuses before it begins."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybatch.errors import UserError
from hybatch.train import main
from hybatch.training.preview import main as preview
from tests.training.small_run import losses, read_metrics, write_config, write_corpus

SHORT = {"steps": 8, "checkpoint_every_steps": 4, "chunk_size": 6}
MIXED = {"batch_size": 16, "mixture": {"x-x-mono": 0.3, "x-y": 0.4, "bitext": 0.3}}


def _config(folder: Path, **alignment: Any) -> Path:
    return write_config(folder, sampling=MIXED, training=SHORT, loss={"temperature": 0.05, "alignment": alignment})


def test_the_term_is_logged_apart_and_a_resumed_run_repeats_it(tmp_path: Path) -> None:
    config = _config(tmp_path, kind="jsd", weight=0.5)
    assert main(["--config", str(config)]) == 0
    run = tmp_path / "run"
    rows = [row for row in read_metrics(run) if "loss" in row]
    assert len(rows) == 8
    assert "bitext" in {row["kind"] for row in rows}
    for row in rows:
        assert 0 < row["alignment"] < math.log(2)
        assert row["aligned"] == 16
        assert row["loss"] > 0.5 * row["alignment"]
    for folder in ("final", "checkpoints/step-00000008"):
        shutil.rmtree(run / folder)
    assert main(["--config", str(config)]) == 0
    assert [row["alignment"] for row in read_metrics(run) if "loss" in row] == [row["alignment"] for row in rows]


def test_a_term_without_weight_is_measured_and_changes_nothing_else(tmp_path: Path) -> None:
    config = _config(tmp_path, kind="mse", weight=0)
    assert main(["--config", str(config)]) == 0
    plain = ["--config", str(config), "--loss.alignment", "null", "--output_dir", str(tmp_path / "plain")]
    assert main(plain) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "plain")
    assert all("alignment" not in row and "aligned" not in row for row in read_metrics(tmp_path / "plain"))


def test_the_preview_counts_translations_by_kind_and_language(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(tmp_path, kind="kl")
    # Of half of the questions there is no second language.
    shutil.rmtree(tmp_path / "train")
    write_corpus(tmp_path / "train", languages="de", examples=300)
    write_corpus(tmp_path / "train", languages="en")
    assert preview(["--config", str(config), "--steps", "8"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "without alignment: train: 150 of 300 examples have no question in a second language trained on" in out
    assert "│ bitext │" in out
    assert "│ 100.00% │ de" in out


def _refused(config: Path, *options: str) -> str:
    with pytest.raises(UserError) as refused:
        preview(["--config", str(config), *options])
    return str(refused.value)


@pytest.mark.parametrize("kind", ["x-x-mono", "bitext"])
def test_a_corpus_without_translations_is_refused_before_a_model_is_made(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(tmp_path)
    shutil.rmtree(tmp_path / "train")
    write_corpus(tmp_path / "train", languages="de", examples=150)
    write_corpus(tmp_path / "train", languages="en", examples=150, first=1000)
    options = ["--sampling.mixture", "null", "--sampling.kind", kind]
    assert main(["--config", str(config), *options]) == 2
    assert not (tmp_path / "run" / "initial").exists()
    error = capsys.readouterr().err
    assert _refused(config, *options) in error
    if kind == "bitext":
        assert "train, bitext: no example has passages in two different languages trained on" in error
    else:
        assert "loss.alignment brings queries and their translations together, but there are none" in error
        assert "train: 300 of 300 examples have no question in a second language trained on" in error


def test_one_language_alone_is_refused(tmp_path: Path) -> None:
    config = _config(tmp_path)
    options = ["--sampling.mixture", "null", "--sampling.languages", "[de]"]
    alone = _refused(config, *options, "--sampling.kind", "x-x-mono")
    assert "train: 150 of 150 examples have no question in a second language trained on" in alone
    pairs = _refused(config, *options, "--sampling.kind", "bitext")
    assert "train, bitext: de is the only one of its languages trained on, two are needed" in pairs


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (".weight", "-1", r"^loss\.alignment\.weight is -1"),
        (".kind", "cosine", r"^loss\.alignment\.kind is 'cosine': it must be one of jsd, kl, mse"),
        (".wieght", "1", r"^loss\.alignment has no option 'wieght': it must be \{kind, weight\} or null"),
        ("", "jsd", r"^loss\.alignment is 'jsd': it must be \{kind, weight\} or null"),
    ],
)
def test_impossible_options_are_named(option: str, value: str, message: str, tmp_path: Path) -> None:
    config = _config(tmp_path)
    with pytest.raises(UserError, match=message):
        preview(["--config", str(config), f"--loss.alignment{option}", value])


def test_the_options_stand_in_the_run_s_own_configuration(tmp_path: Path) -> None:
    config = _config(tmp_path, weight=2)
    assert main(["--config", str(config), "--training.steps", "1", "--training.warmup_steps", "0"]) == 0
    own = tmp_path / "run" / "config.yaml"
    assert yaml.safe_load(own.read_text(encoding="utf-8"))["loss"]["alignment"] == {"kind": "jsd", "weight": 2.0}
    assert main(["--config", str(own)]) == 0
