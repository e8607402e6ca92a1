"""Going on from a checkpoint: after a signal, under other processes, not with another model."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from hybatch.ops import trial
from hybatch.ops.backend import choose_backend, why_missing
from hybatch.ops.contrastive import loss
from hybatch.ops.trial import Figures, Trial
from hybatch.train import main
from hybatch.training.step.engine import StepEngine
from hybatch.training.survival import lock
from hybatch.training.survival.lock import folder_lock
from tests.training.small_run import losses, read_metrics, write_config
from tests.training.warm_process import exit_codes, log, start_run


def _signal_in_step(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals) -> None:
    undisturbed = StepEngine.step

    def signalled(engine: StepEngine, local: Any) -> Any:
        if local.batch.step + 1 == step:
            os.kill(os.getpid(), number)
        return undisturbed(engine, local)

    monkeypatch.setattr(StepEngine, "step", signalled)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 138), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_its_code_and_a_validation_that_was_due_is_made_up_for(
    number: signal.Signals, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, training={"steps": 12}, validation={"every_steps": 6})
    assert main(["--config", str(config), "--output_dir", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as signalling:
        _signal_in_step(signalling, 6, number)
        assert main(["--config", str(config)]) == code
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    assert main(["--config", str(config)]) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    both = [[row for row in read_metrics(tmp_path / name) if "validation" in row] for name in ("run", "whole")]
    assert both[0] == both[1]
    for name in ("best", "final"):
        for file in ("model.safetensors", "README.md"):
            written = [(tmp_path / run / name / file).read_bytes() for run in ("run", "whole")]
            assert written[0] == written[1], file


def test_a_run_ends_with_what_it_left_and_says_it_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, training={"steps": 2}, validation={"every_steps": 1})
    for said in (
        "done: {}/final holds the encoder of step 2, {}/best that of the best",
        "{} holds the finished run: {}/final",
    ):
        assert main(["--config", str(config)]) == 0
        assert said.replace("{}", str(tmp_path / "run")) in capsys.readouterr().out


def test_the_checkpoint_of_another_model_is_refused_and_the_fields_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short: dict[str, Any] = {"training": {"steps": 2, "warmup_steps": 0}, "validation": {"corpora": []}}
    fresh = {"width": 32, "layers": 1, "heads": 2, "vocabulary_size": 500}
    backbone = tmp_path / "backbone"
    for width in (32, 64):
        made = tmp_path / f"width-{width}"
        config = write_config(tmp_path, **short, model={"fresh": fresh | {"width": width}}, output_dir=str(made))
        assert main(["--config", str(config)]) == 0
    config = write_config(tmp_path, **short, model={"fresh": None, "backbone": str(backbone)})
    shutil.copytree(tmp_path / "width-32" / "final", backbone)
    assert main(["--config", str(config)]) == 0
    shutil.rmtree(tmp_path / "run" / "final")
    shutil.rmtree(backbone)
    shutil.copytree(tmp_path / "width-64" / "final", backbone)
    assert main(["--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert "another model" in error
    assert "hidden_size: was 32, now 64" in error


def test_a_run_goes_on_with_its_own_weights_and_says_that_those_of_the_backbone_have_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"steps": 6, "warmup_steps": 0, "checkpoint_every_steps": 2}
    made = write_config(tmp_path, training=training, validation={"corpora": []}, output_dir=str(tmp_path / "made"))
    assert main(["--config", str(made)]) == 0
    backbone, run = tmp_path / "backbone", tmp_path / "run"
    shutil.copytree(tmp_path / "made" / "final", backbone)
    sections: dict[str, Any] = {"validation": {"corpora": []}, "model": {"fresh": None, "backbone": str(backbone)}}
    config = write_config(tmp_path, training=training, **sections)
    assert main(["--config", str(config)]) == 0
    whole = losses(run)

    def go_on_after(step: int) -> str:
        capsys.readouterr()
        shutil.rmtree(run / "final")
        for later in range(step + 2, 7, 2):
            shutil.rmtree(run / "checkpoints" / f"step-{later:08d}")
        assert main(["--config", str(config)]) == 0
        assert losses(run) == whole
        return capsys.readouterr().out

    assert "no longer holds" not in go_on_after(4)
    others = {name: 1.01 * tensor for name, tensor in load_file(backbone / "model.safetensors").items()}
    save_file(others, backbone / "model.safetensors", {"format": "pt"})
    for _ in range(2):  # the checkpoints of a run that went on tell of its first start, too
        assert f"model.backbone {backbone} no longer holds the weights that this run started from" in go_on_after(4)


def test_a_second_run_in_the_same_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, "_PATIENCE_SECONDS", 0.2)
    config = write_config(tmp_path, training={"steps": 2, "warmup_steps": 0}, validation={"corpora": []})
    with folder_lock(tmp_path / "run", print):
        assert main(["--config", str(config)]) == 2
    assert "in use by another run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_goes_on_under_another_number_of_processes_and_says_what_changed(tmp_path: Path) -> None:
    model = {"fresh": {"width": 32, "layers": 1, "heads": 2, "vocabulary_size": 500, "dropout": 0.0}}
    training = {"steps": 12, "checkpoint_every_steps": 6}
    config = write_config(tmp_path, model=model, training=training, validation={"corpora": []})
    assert main(["--config", str(config)]) == 0
    alone = losses(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "final")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000012")
    assert exit_codes(start_run(tmp_path, ["--config", str(config)], processes=2), 200) == [0, 0], log(tmp_path)
    assert "going on after step 6" in log(tmp_path)
    assert "processes 1 -> 2, strategy none -> ddp" in log(tmp_path)
    shared = losses(tmp_path / "run")
    assert shared[:6] == alone[:6]
    assert [loss for _, loss in shared] == pytest.approx([loss for _, loss in alone], rel=1e-3)


def _backends_of(checkpoint: Path) -> dict[str, str]:
    backends: dict[str, str] = json.loads((checkpoint / "manifest.json").read_text())["surroundings"]["backends"]
    return backends


def test_a_run_goes_on_with_the_backend_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = {"steps": 4, "warmup_steps": 0, "checkpoint_every_steps": 2}
    config = write_config(tmp_path, training=training, validation={"corpora": []}, loss={"implementation": "streaming"})
    checkpoints, used = tmp_path / "run" / "checkpoints", []

    def choose(*arguments: Any) -> str:
        used.append(choose_backend(*arguments))
        return used[-1]

    monkeypatch.setattr(loss, "choose_backend", choose)
    monkeypatch.setenv("HYBATCH_BACKEND", "torch")
    assert main(["--config", str(config)]) == 0
    whole = losses(tmp_path / "run")
    monkeypatch.delenv("HYBATCH_BACKEND")
    monkeypatch.setattr(trial, "measure", _compiled_is_faster)
    shutil.rmtree(tmp_path / "run" / "final")
    shutil.rmtree(checkpoints / "step-00000004")
    assert main(["--config", str(config)]) == 0
    assert losses(tmp_path / "run") == whole
    assert set(used) == {"torch"}
    assert len(used) == 6
    for step in (2, 4):
        assert set(_backends_of(checkpoints / f"step-{step:08d}").values()) == {"torch"}


def _compiled_is_faster(trial: Trial, backends: Sequence[str]) -> Figures:
    seconds = {backend: 2.0 if backend == "torch" else 1.0 for backend in backends}
    return Figures(seconds, True, "2026-01-31 12:00", 1)


@pytest.mark.skipif(why_missing("cpu", "contrastive") is not None, reason="there is nothing to choose between")
def test_a_run_that_ended_before_backends_were_chosen_goes_on_with_the_compiled_ops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"steps": 4, "warmup_steps": 0, "checkpoint_every_steps": 2}
    config = write_config(tmp_path, training=training, validation={"corpora": []}, loss={"implementation": "streaming"})
    run = tmp_path / "run"
    monkeypatch.setenv("HYBATCH_BACKEND", "cpu")
    assert main(["--config", str(config)]) == 0
    whole = losses(run)
    monkeypatch.delenv("HYBATCH_BACKEND")
    shutil.rmtree(run / "final")
    shutil.rmtree(run / "checkpoints" / "step-00000004")
    manifest = run / "checkpoints" / "step-00000002" / "manifest.json"
    written = json.loads(manifest.read_text())
    del written["surroundings"]["backends"]
    manifest.write_text(json.dumps(written))
    capsys.readouterr()
    assert main(["--config", str(config)]) == 0
    assert losses(run) == whole
    assert "not the surroundings" not in capsys.readouterr().out
    assert set(_backends_of(run / "checkpoints" / "step-00000004").values()) == {"cpu"}


def test_a_dense_loss_has_no_backend_to_choose(tmp_path: Path) -> None:
    training = {"steps": 2, "warmup_steps": 0, "checkpoint_every_steps": 2}
    config = write_config(tmp_path, training=training, validation={"corpora": []}, loss={"implementation": "dense"})
    assert main(["--config", str(config)]) == 0
    assert _backends_of(tmp_path / "run" / "checkpoints" / "step-00000002") == {}
