"""A run with a frozen backbone: what it writes, how it goes on, and to which weights its checkpoints belong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hybatch.train import main
from tests.models.backbones import save_backbone
from tests.training.small_run import losses, write_config

TRAINING: dict[str, Any] = {"steps": 6, "warmup_steps": 0, "checkpoint_every_steps": 2, "learning_rate": 1e-2}


def _config(folder: Path, **lora: Any) -> Path:
    model = {"fresh": None, "backbone": str(save_backbone(folder, "mbert")), "lora": {"rank": 4, "dropout": 0.1} | lora}
    return write_config(folder, model=model, training=TRAINING, validation={"corpora": []})


def test_checkpoints_hold_the_updates_alone_and_a_resumed_run_ends_bitwise_where_the_undisturbed_one_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = _config(tmp_path), tmp_path / "run"
    assert main(["--config", str(config), "--training.chunk_size", "4"]) == 0
    assert "updates beside 12 layers; 3,584 of " in capsys.readouterr().out
    whole = losses(run)
    ends = [(run / "final" / name).read_bytes() for name in ("model.safetensors", "adapter/adapter_model.safetensors")]
    saved = torch.load(run / "checkpoints" / "step-00000004" / "model.pt", weights_only=True)
    moments = torch.load(run / "checkpoints" / "step-00000004" / "optimizer.pt", weights_only=True)["state"]
    assert len(saved) == len(moments) == 24
    assert all(".lora_" in name for name in saved)

    shutil.rmtree(run / "final")
    shutil.rmtree(run / "checkpoints" / "step-00000006")
    assert main(["--config", str(config), "--training.chunk_size", "4"]) == 0
    assert "going on after step 4" in capsys.readouterr().out
    assert losses(run) == whole
    names = ("model.safetensors", "adapter/adapter_model.safetensors")
    assert [(run / "final" / name).read_bytes() for name in names] == ends


def test_a_checkpoint_refuses_another_base_and_other_updates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = _config(tmp_path), tmp_path / "run"
    assert main(["--config", str(config)]) == 0
    shutil.rmtree(run / "final")
    assert main(["--config", str(config), "--model.lora.rank", "8"]) == 2
    assert "model.lora.rank: was 4, now 8" in capsys.readouterr().err
    weights = tmp_path / "mbert" / "model.safetensors"
    save_file({name: 1.01 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    assert main(["--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert "no longer holds the weights that this run started from (model.safetensors " in error
    assert "holds updates of those alone (model.lora)" in error
    assert not (run / "final").exists()


def test_a_layer_that_the_backbone_lacks_ends_the_run_before_a_corpus_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(tmp_path, targets=["query", "valu"])
    assert main(["--config", str(config), "--corpora", "[{path: /nowhere}]"]) == 2
    assert "no linear layer 'valu'; near names: value" in capsys.readouterr().err
