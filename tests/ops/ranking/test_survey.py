"""One product whose entries are within their error of the true inner products, whatever training has allowed."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.ops.ranking.survey import below, largest_error, rounding, survey


def _rows(seed: int, rows: int, width: int, exponent: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, width, generator=generator, dtype=torch.float64) * 10.0**exponent).float()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    width=st.sampled_from([1, 3, 64, 257, 768]),
    exponents=st.tuples(*[st.sampled_from([-44, -38, -25, -19, 0, 12, 18])] * 2),
    flush=st.booleans(),
)
def test_an_entry_is_within_its_error_of_the_true_product(
    seed: int, width: int, exponents: tuple[int, int], flush: bool
) -> None:
    """The oracle adds fractions; among the rows are some whose products underflow."""
    q, c = _rows(seed, 3, width, exponents[0]), _rows(seed + 1, 4, width, exponents[1])
    torch.set_flush_denormal(flush)
    try:
        found = survey(q, c)
        torch.set_flush_denormal(False)
        error = largest_error(q, c, rounding(width, found.dtype))
    finally:
        torch.set_flush_denormal(False)
    for i in range(len(q)):
        for j in range(len(c)):
            pairs = zip(q[i].tolist(), c[j].tolist(), strict=True)
            true = sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction())
            assert abs(Fraction(float(found[i, j])) - true) <= Fraction(float(error[i]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rows_of_16_bits_lose_nothing(dtype: torch.dtype) -> None:
    q, c = _rows(1, 5, 40, 0).to(dtype), _rows(2, 7, 40, 0).to(dtype)
    assert torch.equal(survey(q, c), survey(q.float(), c.float()))


@settings(deadline=None)
@given(limit=st.floats(-1e30, 1e30), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_what_lies_below_a_limit_is_smaller_and_close(limit: float, dtype: torch.dtype) -> None:
    found = float(below(torch.tensor(limit, dtype=torch.float64), dtype))
    assert found < limit
    assert limit - found <= 2.0**-22 * abs(limit) + 2.0**-148
