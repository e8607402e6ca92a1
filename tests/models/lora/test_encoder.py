"""An encoder with updates: what learns, what it starts from, and that its two saved forms encode as it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel

from hybatch.errors import UserError
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, build_encoder
from hybatch.models.lora.config import LoraConfig
from hybatch.models.parts import check_backbone
from hybatch.models.pooling import pool
from tests.models.backbones import TEXTS, save_backbone

LENGTHS: dict[str, Any] = {"query_max_length": 16, "passage_max_length": 48}


def _config(architecture: str, folder: Path, lora: LoraConfig | None, **options: Any) -> EncoderConfig:
    pooling = "last" if architecture == "qwen3" else None
    backbone = str(save_backbone(folder, architecture))
    return EncoderConfig(backbone=backbone, **{"pooling": pooling, "lora": lora, **LENGTHS, **options})


def _encoder(architecture: str, folder: Path, *, seed: int = 3, **options: Any) -> Encoder:
    lora = options.pop("lora", LoraConfig(rank=4))
    return build_encoder(_config(architecture, folder, lora, **options), seed=seed)


@torch.no_grad()
def _encode(encoder: Encoder, texts: list[str] = TEXTS) -> Tensor:
    return encoder.eval()(encoder.tokenize(texts, "passage"))


@torch.no_grad()
def _train(encoder: Encoder) -> None:
    """As if it had been: every weight that learns is another."""
    generator = torch.Generator().manual_seed(5)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            parameter.normal_(std=0.2, generator=generator)


def _drawn(encoder: Encoder) -> dict[str, Tensor]:
    return {name: weight for name, weight in encoder.state_dict().items() if ".lora_" in name}


def test_it_starts_from_the_backbone_s_own_vectors(tmp_path: Path) -> None:
    assert torch.equal(_encode(_encoder("mbert", tmp_path)), _encode(_encoder("mbert", tmp_path, lora=None)))


def test_seed_and_name_of_a_layer_alone_decide_what_is_drawn_and_torch_s_generator_is_left_alone(
    tmp_path: Path,
) -> None:
    state = torch.get_rng_state()
    every = _drawn(_encoder("mbert", tmp_path))
    assert torch.equal(torch.get_rng_state(), state)
    some = _drawn(_encoder("mbert", tmp_path, lora=LoraConfig(rank=4, targets=["value"])))
    assert len(every) == 24
    assert len(some) == 4
    assert all(torch.equal(weight, every[name]) for name, weight in some.items())
    others = _drawn(_encoder("mbert", tmp_path, seed=4))
    first = [weight for name, weight in every.items() if "lora_A" in name]
    assert not any(torch.equal(weight, others[name]) for name, weight in every.items() if "lora_A" in name)
    assert all(0.9 < weight.abs().max() * weight.shape[1] ** 0.5 < 1 for weight in first)
    assert not any(weight.any() for name, weight in every.items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("architecture", "options", "head_learns"),
    [("labse", {}, False), ("mbert", {"head": "dense"}, True), ("mdeberta", {}, None)],
)
def test_updates_and_a_new_head_learn_and_nothing_else(
    architecture: str, options: dict[str, Any], head_learns: bool | None, tmp_path: Path
) -> None:
    encoder = _encoder(architecture, tmp_path, **options)
    _train(encoder)
    encoder.train()(encoder.tokenize(TEXTS, "passage")).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        learns = ".lora_" in name or (name.startswith("head.") and head_learns)
        assert (parameter.grad is not None) == parameter.requires_grad == bool(learns), name
    assert any(name.startswith("head.") for name, _ in encoder.named_parameters()) == (head_learns is not None)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [("xlm-roberta", {"head": "dense", "head_size": 12}), ("labse", {}), ("mdeberta", {}), ("qwen3", {})],
)
def test_the_saved_folder_is_merged_and_the_adapter_beside_it_is_peft_s_own(
    architecture: str, options: dict[str, Any], tmp_path: Path
) -> None:
    encoder = _encoder(architecture, tmp_path, **options)
    _train(encoder)
    vectors = _encode(encoder)
    assert (vectors - _encode(_encoder(architecture, tmp_path, lora=None, **options))).abs().max() > 0.1
    encoder.save(tmp_path / "saved")

    loaded = Encoder.load(tmp_path / "saved")
    assert loaded.state_dict().keys() == Encoder.load(encoder.config.backbone or "").state_dict().keys() | {
        name for name in encoder.state_dict() if name.startswith("head.")
    }
    torch.testing.assert_close(_encode(loaded), vectors, atol=1e-5, rtol=0)
    reference = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    torch.testing.assert_close(torch.from_numpy(reference.encode_document(TEXTS)), vectors, atol=1e-5, rtol=0)

    base = AutoModel.from_pretrained(encoder.config.backbone, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(base, tmp_path / "saved" / "adapter").eval()
    assert adapted.peft_config["default"].base_model_name_or_path == encoder.config.backbone
    features = encoder.tokenize(TEXTS, "passage")
    assert encoder.config.pooling is not None
    with torch.no_grad():
        found = pool(adapted(**features).last_hidden_state, features["attention_mask"], encoder.config.pooling)
        for layer in encoder.head:
            found = layer(found)
    torch.testing.assert_close(F.normalize(found, dim=-1), vectors, atol=1e-5, rtol=0)


def test_a_merged_folder_says_how_it_was_made_and_is_trained_further_like_any_other(tmp_path: Path) -> None:
    encoder = _encoder("mbert", tmp_path)
    _train(encoder)
    encoder.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "hybatch.json").read_text())["encoder"]["lora"]["rank"] == 4
    assert Encoder.load(tmp_path / "saved").config.lora is None
    again = build_encoder(EncoderConfig(backbone=str(tmp_path / "saved"), lora=LoraConfig(rank=2), **LENGTHS), seed=1)
    torch.testing.assert_close(_encode(again), _encode(encoder), atol=1e-5, rtol=0)


@pytest.mark.parametrize("unpad", ["never", "always"])
def test_gradient_checkpointing_gives_the_same_gradients_and_replays_the_dropout(unpad: str, tmp_path: Path) -> None:
    lora = LoraConfig(rank=4, dropout=0.3)
    plain, again = (
        _encoder("mbert", tmp_path, lora=lora, unpad=unpad, gradient_checkpointing=on) for on in (False, True)
    )
    direction = torch.randn(len(TEXTS), 32, generator=torch.Generator().manual_seed(1))
    for encoder in (plain, again):
        _train(encoder)
        torch.manual_seed(3)
        (encoder.train()(encoder.tokenize(TEXTS, "passage")) * direction).sum().backward()
    others = dict(again.named_parameters())
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, others[name].grad)


def test_under_autocast_updates_are_computed_in_bf16_and_vectors_stay_close(tmp_path: Path) -> None:
    encoder = _encoder("mbert", tmp_path)
    _train(encoder)
    seen = []
    beside = encoder.backbone.get_submodule(encoder.lora_layers[0])
    beside.lora_A["default"].register_forward_hook(lambda *given: seen.append(given[-1].dtype))  # type: ignore[index,union-attr]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = _encode(encoder)
    assert seen == [torch.bfloat16]
    assert rounded.dtype == torch.float32
    # How products in bf16 are summed is the processor's: .979 where they are emulated.
    assert (rounded * _encode(encoder)).sum(dim=1).min() > 0.95


def test_what_cannot_have_updates_is_refused_with_a_reason(tmp_path: Path) -> None:
    fresh = FreshBackboneConfig(width=32, layers=1, heads=2, vocabulary_size=400)
    with pytest.raises(UserError, match=r"model\.lora is of a pretrained backbone"):
        build_encoder(EncoderConfig(fresh=fresh, lora=LoraConfig()), seed=0, texts=TEXTS)
    config = _config("mbert", tmp_path, LoraConfig(targets=["q_proj"]))
    with pytest.raises(UserError, match="near names: query, key, value, dense"):
        check_backbone(config)
    path = Path(str(config.backbone)) / "config.json"
    settings = json.loads(path.read_text()) | {"quantization_config": {"quant_method": "bitsandbytes"}}
    path.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"weights are quantised \(bitsandbytes\), which is not trained on"):
        check_backbone(config)


def test_an_adapter_by_itself_is_no_model(tmp_path: Path) -> None:
    encoder = _encoder("mbert", tmp_path)
    encoder.save(tmp_path / "saved")
    with pytest.raises(UserError, match=r"is an adapter of peft.*give the folder with merged weights, .*saved"):
        Encoder.load(tmp_path / "saved" / "adapter")
