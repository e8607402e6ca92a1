"""Counts of parameters without weights, against encoders that were built, and published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.models import EncoderConfig, FreshBackboneConfig, build_encoder
from hybatch.models.flops import encoder_flops
from hybatch.models.lora.config import LoraConfig
from hybatch.training.plan import published
from hybatch.training.plan.sizes import encoder_sizes
from tests.models.backbones import TEXTS, save_backbone
from tests.models.named.folders import publish


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
    "name", ["qwen3-embedding-0.6b", "e5-mistral-7b-instruct", "embeddinggemma-300m", "mmbert-base"]
)
def test_a_decoder_is_counted_with_its_gates_and_the_keys_that_its_heads_share(name: str, tmp_path: Path) -> None:
    assert_counts_what_is_built(EncoderConfig(backbone=str(publish(tmp_path, name)), query_max_length=200))


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


@pytest.mark.parametrize("architecture", ["xlm-roberta", "nomic_bert", "modernbert", "t5"])
def test_a_fresh_encoder_is_counted_as_it_is_built(architecture: str) -> None:
    fresh = FreshBackboneConfig(architecture=architecture, width=32, layers=2, heads=2, vocabulary_size=400)
    assert_counts_what_is_built(EncoderConfig(fresh=fresh, head="dense", head_size=24))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("FacebookAI/xlm-roberta-base", 278_043_648),
        ("FacebookAI/xlm-roberta-large", 559_890_432),
        ("sentence-transformers/LaBSE", 470_926_848 + 768 * 769),  # a dense layer beside BERT's pooler
        ("alibaba-nlp-community/gte-multilingual-base", 305_368_320),
        ("jhu-clsp/mmBERT-small", 140_493_696),
        ("Qwen/Qwen3-Embedding-0.6B", 595_776_512),
        ("google/embeddinggemma-300m", 302_863_104 + 2 * 768 * 3072),  # two dense layers without bias
        ("intfloat/e5-mistral-7b-instruct", 7_110_660_096),
    ],
)
def test_published_sizes_are_those_of_the_published_weights(name: str, parameters: int) -> None:
    """Numbers of parameters as the weights' own files have them."""
    assert encoder_sizes(EncoderConfig(backbone=name)).parameters == parameters


@pytest.mark.parametrize(
    ("name", "billions"),
    [("facebook/xlm-roberta-xl", 3.5), ("facebook/xlm-roberta-xxl", 10.7)],
)
def test_the_largest_are_those_of_their_papers(name: str, billions: float) -> None:
    assert round(encoder_sizes(EncoderConfig(backbone=name)).parameters / 1e9, 1) == billions


def test_a_transformers_that_does_not_know_an_architecture_yet_is_to_be_updated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(published, "CONFIG_MAPPING", {"bert": object})
    with pytest.raises(UserError, match=r"Qwen3-Embedding-0.6B: transformers .* 'qwen3'; update transformers"):
        encoder_sizes(EncoderConfig(backbone="Qwen/Qwen3-Embedding-0.6B"))


def test_an_unknown_model_is_an_error_that_names_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"./no-such-folder.*xlm-roberta-large"):
        encoder_sizes(EncoderConfig(backbone="./no-such-folder"))


def test_attention_that_does_not_turn_is_refused_before_anything_is_counted() -> None:
    with pytest.raises(UserError, match=r"model\.attention: the architecture 'xlm-roberta'"):
        encoder_sizes(EncoderConfig(backbone="FacebookAI/xlm-roberta-base", attention="bidirectional"))
