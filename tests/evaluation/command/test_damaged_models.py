"""Weights that are not what the folder says, or no numbers: named before anything is encoded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hybatch.errors import UserError
from hybatch.evaluation.command import evaluate
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, build_encoder
from tests.evaluation.conftest import WORDS


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder with a dense layer."""
    fresh = FreshBackboneConfig(width=16, layers=1, heads=2, vocabulary_size=320, dropout=0.0)
    folder = tmp_path_factory.mktemp("sound") / "encoder"
    build_encoder(EncoderConfig(fresh=fresh, head="dense", head_size=8), seed=0, texts=WORDS).save(folder)
    return folder


def _short(weight: Tensor) -> Tensor:
    return weight[: len(weight) // 2].clone()


def _one_wrong_bit(weight: Tensor) -> Tensor:
    bits = weight.view(torch.int32).clone()
    bits[-1, -1] |= 0x7F800000
    return bits.view(torch.float32)


@pytest.mark.parametrize(
    ("file", "name", "change", "message"),
    [
        (
            "model.safetensors",
            "word_embeddings.weight",
            _short,
            r"another shape than config\.json says: .*, 16\], not \[",
        ),
        ("model.safetensors", "output.dense.weight", _short, r"another shape .*output\.dense\.weight is \[8, "),
        (
            "model.safetensors",
            "LayerNorm.bias",
            lambda w: torch.full_like(w, -torch.inf),
            r"not finite, first in .*bias",
        ),
        ("model.safetensors", "key.weight", _one_wrong_bit, r"not finite, first in .*key\.weight"),
        ("2_Dense/model.safetensors", "linear.weight", _short, "2_Dense.*the layer cannot be made: .* size mismatch"),
        ("2_Dense/model.safetensors", "linear.weight", _one_wrong_bit, "2_Dense: .*not finite, first in linear.weight"),
    ],
)
def test_they_are_named_with_the_folder(
    sound: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    name: str,
    change: Callable[[Tensor], Tensor],
    message: str,
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(sound, broken)
    weights = load_file(broken / file)
    key = next(key for key in sorted(weights) if key.endswith(name))
    save_file({**weights, key: change(weights[key])}, broken / file, metadata={"format": "pt"})

    def encode(*_: object, **__: object) -> None:
        raise AssertionError("encoding began")

    monkeypatch.setattr("hybatch.evaluation.encoding.encode.encode_distinct", encode)
    with pytest.raises(UserError, match=f"{broken}.*{message}"):
        evaluate(["--task", "parallel", "--data-dir", str(data), "--model", str(broken)])


def test_embeddings_that_overflow_name_the_model_and_give_no_figures(sound: Path, data: Path, tmp_path: Path) -> None:
    encoder = Encoder.load(sound)
    with torch.no_grad():
        for parameter in encoder.backbone.parameters():
            parameter.fill_(3e38)
    encoder.save(tmp_path / "huge")
    arguments = ["--task", "parallel", "--data-dir", str(data), "--model", str(tmp_path / "huge")]
    with pytest.raises(UserError, match=r"huge gives the query '.*' an embedding that is not finite"):
        evaluate([*arguments, "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
