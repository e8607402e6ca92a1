"""Which layers get updates, and what is said of names that no layer has."""

from __future__ import annotations

import pytest
import torch

from hybatch.errors import UserError
from hybatch.models.backbone.traits import unused_parameters
from hybatch.models.lora.config import LoraConfig
from hybatch.models.lora.targets import target_layers
from tests.models.backbones import backbone


@pytest.mark.parametrize("architecture", ["xlm-roberta", "mbert", "mdeberta", "qwen3"])
def test_auto_is_every_linear_layer_that_a_vector_depends_on(architecture: str) -> None:
    model = backbone(architecture)
    ids = torch.full((1, 4), 7)
    model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.square().sum().backward()
    learning = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module.weight.grad is not None
    ]
    assert target_layers(model, "auto", unused_parameters(model)) == tuple(learning)
    assert len(learning) >= 12


def test_a_name_stands_for_every_layer_that_it_ends_and_never_for_one_that_no_vector_depends_on() -> None:
    model = backbone("mbert")
    unused = unused_parameters(model)
    found = target_layers(model, ["value", "output.dense"], unused)
    assert [name.removeprefix("encoder.layer.1.") for name in found if ".1." in name] == [
        "attention.self.value",
        "attention.output.dense",
        "output.dense",
    ]
    assert "pooler.dense" not in target_layers(model, ["dense"], unused)
    assert target_layers(model, ["encoder.layer.0.attention.self.key"], unused) == (
        "encoder.layer.0.attention.self.key",
    )


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["query", "qury"], r"'bert' has no linear layer 'qury'; near names: query"),
        (["q_proj"], r"no linear layer 'q_proj'; near names: query, key, value, dense"),
        (["word_embeddings"], "no linear layer 'word_embeddings'"),
        (["pooler.dense"], r"no vector depends on 'pooler\.dense'"),
    ],
)
def test_a_target_that_the_backbone_lacks_is_an_error_with_near_names(targets: list[str], message: str) -> None:
    model = backbone("mbert")
    with pytest.raises(UserError, match=message):
        target_layers(model, targets, unused_parameters(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, r"model\.lora\.rank is 0"),
        ({"alpha": 0.0}, r"model\.lora\.alpha is 0\.0"),
        ({"dropout": 1.0}, r"model\.lora\.dropout is 1\.0"),
        ({"dropout": -0.1}, r"model\.lora\.dropout is -0\.1"),
        ({"targets": []}, r"model\.lora\.targets is an empty list"),
        ({"targets": "query"}, r"model\.lora\.targets is 'query': it must be one of auto or a list"),
    ],
)
def test_options_out_of_their_range_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LoraConfig(**options)  # type: ignore[arg-type]
