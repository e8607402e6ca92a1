"""What training.mixed_precision comes to, what is said of it, and which runs go on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from hybatch.errors import UserError
from hybatch.train import main
from hybatch.training.config import TrainingConfig
from hybatch.training.run.launch import build_accelerator
from hybatch.training.run.precision import settle_precision
from tests.faked_processor import fake_processor
from tests.training.small_run import write_config

NEITHER = "this processor has neither AVX512-BF16 nor AMX"
SLOWER = f"training.mixed_precision is bf16, but {NEITHER}: it is slower than float32 there; set it to auto, or to no"


@pytest.mark.parametrize(
    ("asked", "instructions", "is_bf16", "line"),
    [
        ("auto", ["avx512_bf16"], True, "training.mixed_precision: auto comes to bf16"),
        ("auto", ["amx_tile"], True, "training.mixed_precision: auto comes to bf16"),
        ("auto", [], False, f"training.mixed_precision: auto comes to no ({NEITHER})"),
        ("bf16", ["avx512_bf16"], True, None),
        ("bf16", [], True, SLOWER),
        ("no", ["avx512_bf16"], False, None),
        ("no", [], False, None),
    ],
)
def test_auto_gives_way_to_what_it_comes_to_and_bf16_by_name_is_kept_with_a_word(
    asked: str, instructions: list[str], is_bf16: bool, line: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_processor(monkeypatch, *instructions)
    training = TrainingConfig(mixed_precision=asked)  # type: ignore[arg-type]
    assert settle_precision(training, torch.device("cpu")) == line
    assert training.is_bf16 == is_bf16
    assert training.mixed_precision == ("bf16" if is_bf16 else "no")


def test_nothing_takes_auto_for_a_precision() -> None:
    with pytest.raises(ValueError, match="mixed_precision is auto: settle_precision"):
        assert TrainingConfig(mixed_precision="auto").is_bf16


def test_a_launcher_that_names_a_precision_is_refused_beside_auto(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(UserError, match=r"is bf16, but .* is auto: set .* to no, bf16 or auto"):
        build_accelerator(TrainingConfig(mixed_precision="auto"), str(tmp_path))


def test_a_run_records_what_auto_came_to_and_does_not_go_on_where_it_comes_to_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"mixed_precision": "auto", "steps": 2, "warmup_steps": 0}
    config = str(write_config(tmp_path, training=training, validation={"corpora": []}))
    fake_processor(monkeypatch, "avx512_bf16")
    assert main(["--config", config]) == 0
    assert "training.mixed_precision: auto comes to bf16" in capsys.readouterr().out.splitlines()[:3]
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert written["training"]["mixed_precision"] == "bf16"
    card = (tmp_path / "run" / "final" / "README.md").read_text(encoding="utf-8")
    assert re.search(r"precision\W+bf16", card)

    fake_processor(monkeypatch)
    assert main(["--config", config]) == 2
    told = capsys.readouterr()
    assert f"auto comes to no ({NEITHER})" in told.out
    assert "training.mixed_precision: was 'bf16', now 'no'" in told.err
    assert main(["--config", config, "--training.mixed_precision", "bf16"]) == 0
    assert capsys.readouterr().out.count(SLOWER) == 1
