"""Which weights a run starts from, and what is said when they are others later."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hybatch.models import EncoderConfig, FreshBackboneConfig
from hybatch.training.checkpoints.backbone_weights import backbone_weights, changed_weights


def _folder(path: Path, **files: bytes) -> Path:
    for name, content in files.items():
        file = path / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


def _weights(folder: Path) -> dict[str, str]:
    return backbone_weights(EncoderConfig(backbone=str(folder)))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_every_shard_and_every_dense_layer_counts_and_what_is_not_read_does_not(tmp_path: Path) -> None:
    files = {"model-1-of-2.safetensors": b"a", "model-2-of-2.safetensors": b"b", "2_Dense__model.safetensors": b"c"}
    folder = _folder(tmp_path, **files, **{"pytorch_model.bin": b"old", "optimizer.pt": b"d", "config.json": b"{}"})
    expected = {name.replace("__", "/"): _sha256(content) for name, content in files.items()}
    assert _weights(folder) == expected


def test_a_folder_of_the_older_format_is_told_by_it(tmp_path: Path) -> None:
    folder = _folder(tmp_path, **{"0_Transformer__pytorch_model.bin": b"a"})
    assert _weights(folder) == {"0_Transformer/pytorch_model.bin": _sha256(b"a")}


def test_a_model_of_the_hub_is_told_by_its_commit(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "models--somebody--something" / "snapshots" / "1a2b3c", **{"model.safetensors": b"a"})
    assert _weights(folder) == {"commit": "1a2b3c"}


def test_nothing_is_known_of_a_fresh_backbone_or_of_one_that_is_gone(tmp_path: Path) -> None:
    assert backbone_weights(EncoderConfig(fresh=FreshBackboneConfig())) == {}
    assert _weights(tmp_path / "gone") == {}


def test_only_what_differs_is_named_and_nothing_where_one_side_is_unknown() -> None:
    before = {"model.safetensors": "a" * 64, "2_Dense/model.safetensors": "b" * 64}
    now = {"model.safetensors": "c" * 64, "2_Dense/model.safetensors": "b" * 64}
    assert changed_weights(before, now) == ["model.safetensors aaaaaaaaaaaa -> cccccccccccc"]
    assert changed_weights(before, {"commit": "1a2b3c"}) == [
        "2_Dense/model.safetensors bbbbbbbbbbbb -> none",
        "commit none -> 1a2b3c",
        "model.safetensors aaaaaaaaaaaa -> none",
    ]
    assert changed_weights(before, before) == changed_weights({}, now) == changed_weights(before, {}) == []
