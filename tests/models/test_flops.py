"""Arithmetic of a step, against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from hybatch.models.flops import EncoderFlops, bf16_peak_tflops, encoder_flops, rates
from hybatch.models.lora.config import LoraConfig
from hybatch.models.lora.targets import target_layers
from hybatch.models.lora.updates import add_updates
from tests.models.backbones import backbone
from tests.models.named.folders import small_backbone

UNUSED = {"pooler.dense.weight", "pooler.dense.bias"}


@pytest.mark.parametrize("architecture", ["xlm-roberta", "labse", "xlm-roberta-xl"])
def test_the_forward_pass_is_what_torch_counts(architecture: str) -> None:
    model = backbone(architecture)
    model.set_attn_implementation("eager")  # torch does not count the CPU's fused attention
    texts, tokens = 3, 11
    ids = torch.full((texts, tokens), 7)
    with FlopCounterMode(display=False) as counter:
        model.encoder(model.embeddings(input_ids=ids))
    assert encoder_flops(model, None, UNUSED).forward([(texts, tokens)]) == counter.get_total_flops()


@pytest.mark.parametrize("frozen", [False, True])
def test_the_backward_pass_is_what_torch_counts_but_for_the_gradient_of_a_frozen_backbones_input(frozen: bool) -> None:
    model = backbone("xlm-roberta")
    model.set_attn_implementation("eager")
    if frozen:
        add_updates(model, LoraConfig(rank=3), target_layers(model, "auto", UNUSED))
    texts, tokens = 3, 11
    hidden = model(input_ids=torch.full((texts, tokens), 7)).last_hidden_state
    with FlopCounterMode(display=False) as counter:
        hidden.sum().backward()
    left_out = encoder_flops(model, None, UNUSED).backward([(texts, tokens)]) - counter.get_total_flops()
    first = model.encoder.layer[0].attention.self.named_parameters()
    into_first = sum(weight.numel() for name, weight in first if weight.ndim == 2 and "lora_B" not in name)
    assert left_out == frozen * texts * tokens * 2 * into_first


@pytest.mark.parametrize("name", ["qwen3-embedding-0.6b", "e5-mistral-7b-instruct"])
def test_the_forward_pass_of_a_decoder_is_what_torch_counts(name: str) -> None:
    """Heads that share keys, and that are wider together than the hidden states."""
    model = small_backbone(name)
    model.set_attn_implementation("eager")
    texts, tokens = 3, 11
    ids = torch.full((texts, tokens), 7)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    rotary = 2 * texts * tokens * model.config.head_dim // 2  # the angles, one product a token
    counted = counter.get_total_flops()
    assert 0 <= counted - encoder_flops(model, None, UNUSED).forward([(texts, tokens)]) <= rotary


def test_gradient_caching_encodes_every_chunk_but_the_last_once_more() -> None:
    flops = EncoderFlops(matrix_parameters=1000, head_parameters=10, attention_width=64)
    first, last = [(4, 16), (1, 5)], [(2, 32)]
    plain, cached = (flops.step([first, last], cached=cached) for cached in (False, True))
    assert plain == 3 * flops.forward([*first, *last])
    assert cached - plain == flops.forward(first)
    assert flops.forward([*first, *last]) == sum(flops.forward([texts]) for texts in [*first, *last])


@pytest.mark.parametrize(
    ("device", "peak"),
    [("NVIDIA H200", 989.4), ("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA H100 PCIe", 756.0), ("Tesla T4", None)],
)
def test_the_peak_of_a_device_is_known_or_not_guessed(device: str, peak: float | None) -> None:
    assert bf16_peak_tflops(device) == peak


def test_rates_count_the_second_encoding_as_work_done_but_not_as_the_models_own() -> None:
    flops = EncoderFlops(matrix_parameters=1000, head_parameters=0, attention_width=0)
    chunks = [[(4, 10)], [(2, 20)]]  # 80 tokens, 160,000 operations forward
    found = rates(flops, chunks, cached=True, seconds=2.0, peak_tflops=1e-6)
    assert found["tflops"] == pytest.approx((4 * 80_000 + 3 * 80_000) / 2 / 1e12)
    assert found["mfu"] == pytest.approx(3 * 160_000 / 2 / 1e12 / 1e-6)
    assert "mfu" not in rates(flops, chunks, cached=True, seconds=2.0, peak_tflops=None)


@given(
    texts=st.integers(1, 60),
    size=st.integers(1, 70),
    tokens=st.integers(1, 40),
    cached=st.booleans(),
    recomputed=st.booleans(),
)
def test_only_how_much_the_last_chunk_holds_matters(
    texts: int, size: int, tokens: int, cached: bool, recomputed: bool
) -> None:
    flops = EncoderFlops(matrix_parameters=7, head_parameters=3, attention_width=5)
    chunks = [[(min(size, texts - start), tokens)] for start in range(0, texts, size)]
    last = chunks[-1][0][0]
    options = {"cached": cached, "recomputed": recomputed}
    assert flops.step([[(4, 9)], *chunks], **options) == flops.step(
        [[(4, 9), (texts - last, tokens)], [(last, tokens)]], **options
    )
