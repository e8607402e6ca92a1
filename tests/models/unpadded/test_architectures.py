"""Every architecture on the list gives the vectors and gradients of its padded self."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MistralConfig, PreTrainedModel

from hybatch.models.attention import IS_CAUSAL
from hybatch.models.backbone.fresh import fresh_backbone
from hybatch.models.config import FreshBackboneConfig
from hybatch.models.unpadded import (
    ARCHITECTURES,
    TokenSequence,
    attend_without_padding,
    attention,
    dot_products,
    why_padded,
)
from hybatch.models.unpadded.sequence import backbone_inputs

WIDTH = 32
# Neighbours of equal length, a text of one token, and lengths in no order.
LENGTHS = [3, 3, 5, 9, 9, 1, 12, 4]
WINDOWED = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ARCHITECTURES},
    "gemma3_text": ("gemma3_text", {"head_dim": 8, "query_pre_attn_scalar": 8, **WINDOWED}),
    "gemma3_text, both ways": (
        "gemma3_text",
        {"head_dim": 8, "query_pre_attn_scalar": 8, "use_bidirectional_attention": True, **WINDOWED},
    ),
    "gemma, grouped heads": ("gemma", {"head_dim": 8, "num_key_value_heads": 1}),
    "llama, grouped heads": ("llama", {"num_key_value_heads": 2}),
    "mistral, window": ("mistral", {"sliding_window": 4}),
    **{f"{name}, both ways": (name, {"attention": "bidirectional"}) for name in IS_CAUSAL},
    "modernbert, window": (
        "modernbert",
        {"local_attention": 6, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "qwen2, window": ("qwen2", {"use_sliding_window": True, **WINDOWED}),
    "qwen3, window": ("qwen3", {"use_sliding_window": True, **WINDOWED}),
}


def _backbone(architecture: str, options: dict[str, Any]) -> PreTrainedModel:
    options = dict(options)
    attention = options.pop("attention", None)
    config = FreshBackboneConfig(
        architecture=architecture, width=WIDTH, layers=2, heads=4, options=options, dropout=0.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = fresh_backbone(
            config, vocabulary_size=50, max_positions=40, attn_implementation=None, attention=attention
        )
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.3)  # large enough for every weight to matter
    return made.double().train()


def _features(padding_id: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask_nT = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids_nT = torch.randint(5, 50, mask_nT.shape, generator=generator)
    ids_nT[4, 3] = padding_id  # a text may spell the token
    ids_nT[~mask_nT] = padding_id
    return {"input_ids": ids_nT, "attention_mask": mask_nT.long()}


def _differentiated(backbone: PreTrainedModel, encode: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Hidden states of the tokens, and the gradients of a weighted sum of them."""
    backbone.zero_grad()
    hidden_NH = encode()
    weights_NH = torch.randn(hidden_NH.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (hidden_NH * weights_NH).sum().backward()
    found = {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}
    return hidden_NH.detach(), found


@pytest.mark.parametrize("way", ["by_length", "repadded"])
@pytest.mark.parametrize("case", CASES)
def test_without_padding_vectors_and_gradients_are_those_of_padded_texts(
    case: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture, options = CASES[case]
    backbone = _backbone(architecture, options)
    features = _features(backbone.config.pad_token_id)
    is_token_nT = features["attention_mask"].bool()
    truth, true_gradients = _differentiated(backbone, lambda: backbone(**features).last_hidden_state[is_token_nT])

    attend_without_padding(backbone)
    monkeypatch.setattr(attention, "by_length", getattr(dot_products, way))
    sequence = TokenSequence.of_mask(features["attention_mask"], torch.device("cpu"))
    inputs = backbone_inputs(
        sequence, ARCHITECTURES[backbone.config.model_type], features, backbone.config.pad_token_id
    )
    inputs["input_ids"] = sequence.flat(features["input_ids"])

    def encode() -> Tensor:
        return backbone(**inputs, token_sequence=sequence).last_hidden_state[0]

    found, gradients = _differentiated(backbone, encode)
    # Some norms work in float32 whatever they are given.
    allowed = 1e-6 if architecture in ("gemma", "gemma3_text", "llama", "mistral", "qwen2", "qwen3") else 1e-10
    assert (found - truth).abs().max() <= allowed * truth.abs().max()
    assert gradients.keys() == true_gradients.keys()
    scale = max(gradient.abs().max() for gradient in true_gradients.values())
    for name, gradient in true_gradients.items():
        assert (gradients[name] - gradient).abs().max() <= allowed * scale, name


@pytest.mark.parametrize("case", [case for case in CASES if "window" in case or "gemma3" in case])
def test_the_windows_of_these_cases_hide_tokens(case: str) -> None:
    """Or the test above would not look at windows."""
    architecture, options = CASES[case]
    backbone, wide = _backbone(architecture, options), _backbone(architecture, _widened(options))
    features = _features(backbone.config.pad_token_id)
    narrow, whole = (one(**features).last_hidden_state for one in (backbone, wide))
    assert (narrow - whole).abs().max() > 1e-3


def _widened(options: dict[str, Any]) -> dict[str, Any]:
    return {name: 64 if name in ("sliding_window", "local_attention") else value for name, value in options.items()}


def test_padded_texts_go_through_the_same_attention_unchanged() -> None:
    backbone = _backbone("bert", {})
    features = _features(backbone.config.pad_token_id)
    truth = backbone(**features).last_hidden_state
    attend_without_padding(backbone)
    assert torch.equal(backbone(**features).last_hidden_state, truth)


def test_windows_that_someone_opened_to_both_sides_are_padded() -> None:
    """transformers counts the ends of these otherwise than those of every other window."""
    config = MistralConfig(sliding_window=4)
    assert why_padded(config) is None
    config.is_causal = False
    assert "to both sides" in str(why_padded(config))
