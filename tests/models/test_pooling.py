from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybatch.models.config import PoolingMode
from hybatch.models.pooling import pool


@st.composite
def padded_batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of 1 to T tokens, padded on one side or the other."""
    tokens = draw(st.integers(1, 7))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        kept = draw(st.integers(1, tokens))
        ones, zeros = [1] * kept, [0] * (tokens - kept)
        rows.append(ones + zeros if draw(st.booleans()) else zeros + ones)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    return torch.randn(len(rows), tokens, 5, generator=generator), torch.tensor(rows)


@given(padded_batches(), st.sampled_from(get_args(PoolingMode)))
def test_pooling_agrees_with_a_loop_over_the_tokens_of_each_row(batch, mode) -> None:
    hidden, mask = batch
    for row, pooled in enumerate(pool(hidden, mask, mode)):
        tokens = [hidden[row, t] for t in range(hidden.shape[1]) if mask[row, t]]
        expected = {
            "cls": tokens[0],
            "last": tokens[-1],
            "mean": sum(tokens) / len(tokens),
            "max": torch.tensor([max(values) for values in zip(*(t.tolist() for t in tokens), strict=True)]),
        }[mode]
        torch.testing.assert_close(pooled, expected)


@pytest.mark.parametrize("mode", get_args(PoolingMode))
def test_what_stands_at_padded_positions_changes_nothing(mode) -> None:
    hidden = torch.randn(2, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]])
    other = torch.where(mask[..., None] == 1, hidden, torch.full_like(hidden, 1e6))
    assert torch.equal(pool(hidden, mask, mode), pool(other, mask, mode))


def test_the_mean_is_summed_in_fp32_also_from_bf16_and_under_autocast() -> None:
    # In bf16, 256 + 1 is 256: a sum in bf16 would stop growing there.
    hidden = torch.ones(1, 1000, 2, dtype=torch.bfloat16)
    mask = torch.ones(1, 1000, dtype=torch.int64)
    mask[0, 999] = 0
    hidden[0, 0] = 256
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pool(hidden, mask, "mean")
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, torch.full((1, 2), (256 + 998) / 999))


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_a_row_without_tokens_gives_zeros_and_a_finite_gradient(mode) -> None:
    hidden = torch.randn(1, 3, 4, requires_grad=True)
    pooled = pool(hidden, torch.zeros(1, 3, dtype=torch.int64), mode)
    pooled.sum().backward()
    assert torch.equal(pooled, torch.zeros(1, 4))
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()
