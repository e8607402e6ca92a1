"""FlashAttention within each text: what can be seen of it without a GPU, and the comparison that lets it be used."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hybatch.models.unpadded import flash
from hybatch.models.unpadded.dot_products import by_length
from hybatch.models.unpadded.sequence import TokenSequence

CPU = torch.device("cpu")


@pytest.mark.parametrize(("causal", "window", "dropout"), [(False, None, 0.0), (True, 4, 0.1)])
def test_the_operator_takes_what_it_is_given_and_has_a_gradient(
    causal: bool, window: int | None, dropout: float
) -> None:
    mask_nT = torch.arange(7) < torch.tensor([1, 7, 3])[:, None]
    sequence = TokenSequence.of_mask(mask_nT, CPU)
    assert sequence.starts.tolist() == [0, 1, 8, 11]
    sequence = replace(sequence, starts=sequence.starts.to("meta"))
    heads = [torch.zeros(3, 11, 32, dtype=torch.bfloat16, device="meta", requires_grad=True) for _ in range(3)]
    found = flash.flash(*heads, sequence, causal=causal, window=window, dropout=dropout, scale=0.2)
    assert found.shape == (1, 11, 3, 32)
    gradients = torch.autograd.grad(found.float().sum(), heads)
    assert [gradient.shape for gradient in gradients] == [head.shape for head in heads]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_comparison_lets_a_right_way_through(dtype: torch.dtype) -> None:
    assert flash.why_unlike(by_length, CPU, dtype, 16) is None


def _wide(*heads: Tensor, **options: object) -> Tensor:
    return by_length(*heads, **{**options, "window": None})  # type: ignore[arg-type]


def _without_gradient_of_keys(query: Tensor, key: Tensor, *others: Tensor, **options: object) -> Tensor:
    return by_length(query, key.detach() + 0 * key, *others, **options)  # type: ignore[arg-type]


def _refusing(*heads: Tensor, **options: object) -> Tensor:
    raise TypeError("no such argument")


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        (_wide, "results differ by .*, causal False, window 8"),
        (_without_gradient_of_keys, "results differ by 1.0e"),
        (_refusing, "TypeError: no such argument"),
    ],
)
def test_the_comparison_tells_of_windows_gradients_and_errors(way: object, reason: str) -> None:
    found = flash.why_unlike(way, CPU, torch.bfloat16, 16)  # type: ignore[arg-type]
    assert re.search(reason, str(found)), found


def test_the_comparison_is_not_touched_by_what_its_caller_has_switched_on() -> None:
    ask = partial(flash.why_unlike, by_length, CPU, torch.float32, 16)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert flash._apart(ask) is None
    before = torch.get_rng_state()
    weight = torch.ones(3, requires_grad=True)

    def layer(rows: Tensor) -> Tensor:
        if not seen:
            seen.append(flash._apart(ask))
        return (rows * weight).exp()

    seen: list[str | None] = []
    checkpoint(layer, torch.ones(3), use_reentrant=False).sum().backward()
    assert seen == [None]
    assert weight.grad is not None
    assert torch.equal(torch.get_rng_state(), before)


def test_a_processor_has_no_flash_attention() -> None:
    assert not flash.has_flash(torch.zeros(2, 5, 32, dtype=torch.bfloat16))
