"""Attention within each text by torch's FlashAttention, beside the one that a CPU computes in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hybatch.models import EncoderConfig, build_encoder
from hybatch.models.unpadded.dot_products import by_length, repadded
from hybatch.models.unpadded.flash import flash, has_flash
from hybatch.models.unpadded.sequence import TokenSequence
from tests.models.backbones import save_backbone

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]

LENGTHS = (1, 2, 7, 64, 65, 130, 3)
HEADS, WIDTH = 3, 32
Attend = Callable[..., Tensor]


def _sequence(device: str) -> TokenSequence:
    mask_nT = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return TokenSequence.of_mask(mask_nT, torch.device(device))


def _heads(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(HEADS, sum(LENGTHS), WIDTH, generator=generator).to(dtype) for _ in range(3)]


def _differentiated(
    attend: Attend, heads: list[Tensor], device: str, *, causal: bool, window: int | None, dropout: float = 0.0
) -> list[Tensor]:
    """What it gives, and the gradients of a weighted sum of it, in float64 on the CPU."""
    own = [tensor.to(device).detach().requires_grad_() for tensor in heads]
    options = {"causal": causal, "window": window, "dropout": dropout, "scale": WIDTH**-0.5}
    found = attend(*own, _sequence(device), **options)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad((found.double() * weights.to(device)).sum(), own)
    return [tensor.detach().double().cpu() for tensor in (found, *gradients)]


@pytest.mark.parametrize("way", [flash, repadded])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (False, 4), (True, 4), (False, 1000)])
def test_a_gpu_attends_as_a_cpu_does_within_the_rounding_of_halves(
    causal: bool, window: int | None, dtype: torch.dtype, way: Attend
) -> None:
    heads = _heads(dtype)
    doubles = [tensor.double() for tensor in heads]
    truth = _differentiated(by_length, doubles, "cpu", causal=causal, window=window)
    found = _differentiated(way, heads, "cuda", causal=causal, window=window)
    rounding = torch.finfo(dtype).eps
    for its, expected in zip(found, truth, strict=True):
        assert (its - expected).norm() <= 2 * rounding * expected.norm()


def test_the_same_seed_drops_the_same_and_about_as_much_as_is_asked() -> None:
    heads = _heads(torch.bfloat16)
    heads[2] = torch.ones_like(heads[2])
    outputs = []
    for seed in (1, 1, 2):
        torch.cuda.manual_seed(seed)
        found = _differentiated(flash, heads, "cuda", causal=False, window=None, dropout=0.25)
        outputs.append(found[0])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    of_long_texts = outputs[0][0, 74:269]  # where many keys share the weight, the mean of what is kept is near it
    assert float(of_long_texts.mean()) == pytest.approx(1, abs=0.05)
    assert float(of_long_texts.std()) > 0.02


def test_float32_and_heads_that_the_kernels_do_not_know_are_padded() -> None:
    known = torch.zeros(HEADS, 5, WIDTH, dtype=torch.bfloat16, device="cuda")
    assert has_flash(known)
    assert not has_flash(known.float())
    assert not has_flash(known[..., :20])
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert not has_flash(known)


@pytest.mark.parametrize("architecture", ["xlm-roberta", "labse", "qwen3"])
def test_an_encoder_in_bf16_gives_about_the_vectors_of_float32(architecture: str, tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, architecture)
    texts = ["Where is it?", "It is here, and nowhere else; so much is known of it.", "No.", "One more of them"]
    vectors = []
    for unpad, dtype in (("never", torch.float32), ("always", torch.bfloat16)):
        config = EncoderConfig(backbone=str(folder), unpad=unpad)
        encoder = build_encoder(config, seed=0).cuda().eval()
        with torch.no_grad(), torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
            features = {name: tensor.cuda() for name, tensor in encoder.tokenize(texts, "passage").items()}
            vectors.append(encoder(features).float())
    assert (vectors[0] * vectors[1]).sum(dim=1).min() > 0.995
