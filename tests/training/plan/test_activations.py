"""What is predicted to be kept for the backward pass, against what a real forward pass keeps."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, build_encoder
from hybatch.models.lora.config import LoraConfig
from hybatch.models.lora.targets import target_layers
from hybatch.models.lora.updates import add_updates
from hybatch.training.plan.activations import profile_activations
from tests.models.backbones import TEXTS

TEXTS_AT_ONCE, TOKENS = 6, 48


def encoder(*, architecture: str = "xlm-roberta", settings: dict[str, Any] | None = None, **options: object) -> Encoder:
    fresh = FreshBackboneConfig(
        architecture=architecture,
        width=64,
        layers=5,
        heads=4,
        vocabulary_size=400,
        dropout=0.0,
        max_positions=TOKENS,
        options=settings or {},
    )
    config = EncoderConfig(fresh=fresh, query_max_length=TOKENS, passage_max_length=TOKENS, **options)  # type: ignore[arg-type]
    return build_encoder(config, seed=0, texts=TEXTS * 3)


def features() -> dict[str, Tensor]:
    ids = torch.full((TEXTS_AT_ONCE, TOKENS), 7)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def allocated(model: Encoder, bf16: bool) -> tuple[int, Tensor]:
    """Bytes that a forward pass allocates and does not free while its result lives, by torch's own account."""
    inputs = features()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        model(inputs)
    with (
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record,
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        result = model(inputs)
    return sum(event.self_cpu_memory_usage for event in record.key_averages()), result


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_within_a_tenth_of_what_a_forward_pass_keeps(bf16: bool, checkpointing: bool) -> None:
    model = encoder(gradient_checkpointing=checkpointing)
    expected = profile_activations(model.backbone.config, tokens=TOKENS, pooling="mean", bf16=bf16)
    kept, result = allocated(model, bf16)
    predicted = expected.kept(TEXTS_AT_ONCE, checkpointing=checkpointing)
    if checkpointing:
        # The layer at work is there in the backward pass only.
        predicted -= expected.layer_fixed + TEXTS_AT_ONCE * expected.layer_per_text
    assert result.requires_grad
    assert kept == pytest.approx(predicted, rel=0.1)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_activations_of_a_decoder_with_gates_and_shared_keys_are_within_a_tenth_too(attention: str) -> None:
    settings = {"num_key_value_heads": 2, "head_dim": 32}
    model = encoder(architecture="qwen3", settings=settings, attention=attention, unpad="never")
    expected = profile_activations(model.backbone.config, tokens=TOKENS, pooling="mean", bf16=False)
    kept, _ = allocated(model, bf16=False)
    assert kept == pytest.approx(expected.kept(TEXTS_AT_ONCE, checkpointing=False), rel=0.1)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("targets", ["auto", ["query", "value"]])
def test_beside_frozen_layers_too_and_they_keep_less_where_they_have_no_update(
    targets: Literal["auto"] | list[str], bf16: bool
) -> None:
    model = encoder()
    lora = LoraConfig(rank=4, targets=targets)
    layers = target_layers(model.backbone, targets, model.unused)  # type: ignore[arg-type]
    add_updates(model.backbone, lora, layers)  # type: ignore[arg-type]
    options: dict[str, Any] = {"tokens": TOKENS, "pooling": "mean", "bf16": bf16}
    expected = profile_activations(model.backbone.config, lora=lora, lora_layers=layers, **options)
    kept, result = allocated(model, bf16)
    assert result.requires_grad
    assert kept == pytest.approx(expected.kept(TEXTS_AT_ONCE, checkpointing=False), rel=0.1)
    full = profile_activations(model.backbone.config, **options).kept(TEXTS_AT_ONCE, checkpointing=False)
    assert targets == "auto" or kept < 0.8 * full


def test_memory_grows_with_texts_and_layers_and_checkpointing_saves_most_of_it() -> None:
    config = encoder().backbone.config
    profile_ = profile_activations(config, tokens=TOKENS, pooling="mean", bf16=False)
    assert profile_.kept(8, checkpointing=False) == pytest.approx(2 * profile_.kept(4, checkpointing=False), rel=0.05)
    assert profile_.kept(8, checkpointing=True) < 0.4 * profile_.kept(8, checkpointing=False)


def test_fused_attention_keeps_no_matrix_of_tokens_by_tokens_and_eager_does() -> None:
    config = encoder().backbone.config
    fused, eager = (
        [
            profile_activations(
                config, tokens=tokens, pooling="mean", bf16=False, attn_implementation=attention
            ).layer_per_text
            for tokens in (16, 32)
        ]
        for attention in ("sdpa", "eager")
    )
    assert fused[1] == pytest.approx(2 * fused[0], rel=0.05)
    assert eager[1] > 2.1 * eager[0] > 2 * fused[0]
