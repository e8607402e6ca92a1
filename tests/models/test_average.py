"""The mean of encoders: against float64, and what has none."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hybatch.models import Encoder, EncoderConfig, build_encoder
from hybatch.models.average import move_towards_, why_apart
from tests.models.backbones import save_backbone


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("start")
    save_backbone(folder, "xlm-roberta")
    lengths = {"query_max_length": 20, "passage_max_length": 30}
    config = EncoderConfig(backbone=str(folder / "xlm-roberta"), head="dense", head_size=24, **lengths)
    return build_encoder(config, seed=0)


def _trained(start: Encoder, seed: int) -> Encoder:
    """The start, each of its weights moved a little."""
    encoder = copy.deepcopy(start)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return encoder


def test_every_weight_is_the_mean_in_float64_to_its_last_bits(start: Encoder) -> None:
    encoders, shares = [_trained(start, seed) for seed in range(3)], [0.5, 0.3, 0.2]
    mean = copy.deepcopy(encoders[0])
    move_towards_(mean, encoders[1], 0.3 / 0.8)
    move_towards_(mean, encoders[2], 0.2)
    for name, weight in mean.state_dict().items():
        weights = [encoder.state_dict()[name].double() for encoder in encoders]
        right = sum(share * one for share, one in zip(shares, weights, strict=True))
        torch.testing.assert_close(weight.double(), right, atol=1e-6, rtol=0)


def test_equal_encoders_have_themselves_as_their_mean_bit_by_bit(start: Encoder) -> None:
    mean, same = _trained(start, 1), _trained(start, 1)
    move_towards_(mean, same, 1 / 3)
    for name, weight in mean.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name])


def test_a_weight_that_two_layers_share_moves_once(start: Encoder) -> None:
    mean, other = _trained(start, 1), _trained(start, 2)
    for encoder in (mean, other):
        layers = encoder.backbone.encoder.layer
        layers[1].output.dense.weight = layers[0].output.dense.weight
    before, goal = (one.backbone.encoder.layer[0].output.dense.weight.detach().clone() for one in (mean, other))
    move_towards_(mean, other, 0.25)
    torch.testing.assert_close(mean.backbone.encoder.layer[0].output.dense.weight, before.lerp(goal, 0.25))


def test_encoders_of_one_start_have_a_mean(start: Encoder) -> None:
    assert why_apart(_trained(start, 1), start) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"head_size": 16}, "the shapes of weights: head.0.linear.bias, head.0.linear.weight"),
        ({"pooling": "cls"}, "pooling, mean and cls"),
        ({"query_prefix": "ask: "}, "what stands before a query, 'Query: ' and 'ask: '"),
        ({"passage_prefix": ""}, "what stands before a passage"),
    ],
)
def test_what_tells_encoders_apart_is_named(start: Encoder, options: dict[str, object], said: str) -> None:
    config = replace(start.config, **{"backbone": start.config.backbone, **options})
    other = build_encoder(config, seed=0)
    assert said in str(why_apart(start, other))


def test_weights_of_equal_shapes_that_compute_something_else_are_told_apart(start: Encoder) -> None:
    other = copy.deepcopy(start)
    other.backbone.config.num_attention_heads = 2
    assert why_apart(start, other) == "the backbone's config.json: num_attention_heads"
    other = copy.deepcopy(start)
    other.backbone.config.hidden_dropout_prob = 0.5
    assert why_apart(start, other) is None


def test_another_architecture_or_another_tokenizer_is_named(start: Encoder, tmp_path: Path) -> None:
    save_backbone(tmp_path, "labse")
    config = replace(start.config, backbone=str(tmp_path / "labse"))
    labse = build_encoder(config, seed=0)
    assert "the backbone's architecture, xlm-roberta and bert" in str(why_apart(start, labse))
    lower = copy.deepcopy(start)
    rules = lower.tokenizer.backend_tokenizer
    rules.add_tokens(["Donau"])
    assert "how texts become tokens" in str(why_apart(start, lower))
