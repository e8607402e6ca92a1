"""Counts of parameters without weights, against encoders that were built, and published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.models import EncoderConfig, FreshBackboneConfig, build_encoder
from hybatch.models.flops import encoder_flops
from hybatch.models.lora.config import LoraConfig
from hybatch.training.plan.published import published_names
from hybatch.training.plan.sizes import encoder_sizes
from tests.models.backbones import TEXTS, save_backbone


def assert_counts_what_is_built(config: EncoderConfig) -> None:
    encoder = build_encoder(config, seed=0, texts=TEXTS * 3)
    if config.fresh is not None:
        config.fresh.vocabulary_size = len(encoder.tokenizer)
    sizes = encoder_sizes(config)
    assert sizes.parameters == sum(p.numel() for p in encoder.parameters())
    assert sizes.learning == sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert sizes.flops == encoder_flops(encoder.backbone, encoder.head, encoder.unused)
    assert sizes.lora_layers == encoder.lora_layers
    assert sizes.width == encoder.embedding_size
    assert sizes.pooling == encoder.config.pooling


@pytest.mark.parametrize("architecture", ["xlm-roberta", "xlm-roberta-xl", "mbert", "mdeberta", "qwen3", "labse"])
def test_a_folder_is_counted_as_it_is_built(architecture: str, tmp_path: Path) -> None:
    assert_counts_what_is_built(
        EncoderConfig(backbone=str(save_backbone(tmp_path, architecture)), passage_max_length=64)
    )


@pytest.mark.parametrize(
    ("architecture", "head", "targets"),
    [("mbert", None, "auto"), ("mdeberta", "dense", ["query_proj", "output.dense"]), ("labse", None, ["value"])],
)
def test_a_frozen_backbone_with_updates_is_counted_as_it_is_built(
    architecture: str, head: Any, targets: Any, tmp_path: Path
) -> None:
    backbone = str(save_backbone(tmp_path, architecture))
    lora = LoraConfig(rank=3, targets=targets)
    assert_counts_what_is_built(EncoderConfig(backbone=backbone, passage_max_length=64, head=head, lora=lora))


@pytest.mark.parametrize("architecture", ["xlm-roberta", "nomic_bert"])
def test_a_fresh_encoder_is_counted_as_it_is_built(architecture: str) -> None:
    fresh = FreshBackboneConfig(architecture=architecture, width=32, layers=2, heads=2, vocabulary_size=400)
    assert_counts_what_is_built(EncoderConfig(fresh=fresh, head="dense", head_size=24))


def test_published_sizes_are_those_of_the_published_weights() -> None:
    """Numbers of parameters as the weights' own files have them (XL and XXL: as their paper rounds them)."""
    parameters = {name: encoder_sizes(EncoderConfig(backbone=name)).parameters for name in published_names()}
    assert parameters["FacebookAI/xlm-roberta-base"] == 278_043_648
    assert parameters["FacebookAI/xlm-roberta-large"] == 559_890_432
    assert parameters["sentence-transformers/LaBSE"] == 470_926_848 + 768 * 769  # a dense layer beside BERT's pooler
    assert round(parameters["facebook/xlm-roberta-xl"] / 1e9, 1) == 3.5
    assert round(parameters["facebook/xlm-roberta-xxl"] / 1e9, 1) == 10.7


def test_an_unknown_model_is_an_error_that_names_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"./no-such-folder.*xlm-roberta-large"):
        encoder_sizes(EncoderConfig(backbone="./no-such-folder"))
