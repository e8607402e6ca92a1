"""Rounding of embeddings."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybatch.ops.precision import op_precision, round_rows


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_tf32_is_the_nearest_value_with_ten_fraction_bits_and_the_even_one_of_two(values: list[float]) -> None:
    """The oracle scales each value so that the tf32 grid becomes the integers, and lets numpy round these."""
    given_ = np.array(values, dtype=np.float64)
    _, exponent = np.frexp(given_)
    grid = np.ldexp(1.0, np.maximum(exponent - 11, -136))  # below the least normal float32 the grid stays as it is
    expected = np.rint(given_ / grid) * grid
    rounded = round_rows(torch.tensor(values, dtype=torch.float32)[None], "tf32", "torch")[0].double().numpy()
    overflows = np.abs(expected) > np.finfo(np.float32).max
    np.testing.assert_array_equal(rounded[~overflows], expected[~overflows])
    assert np.isinf(rounded[overflows]).all()


def test_tf32_keeps_what_is_not_finite_as_it_is() -> None:
    rows = torch.tensor([[torch.nan, torch.inf, -torch.inf]])
    assert torch.equal(round_rows(rows, "tf32", "cpu").isnan(), rows.isnan())
    assert round_rows(rows, "tf32", "cpu")[0, 1:].tolist() == [torch.inf, -torch.inf]


def test_only_cuda_kernels_round_to_tf32_or_rescore_by_themselves() -> None:
    rows = torch.tensor([[1 + 2.0**-20]])
    assert torch.equal(round_rows(rows, "tf32", "cuda"), rows)
    assert round_rows(rows, "tf32", "cpu").item() == 1
    assert op_precision("bf16", True, "cuda") == "bf16+rescore"
    assert op_precision("bf16", True, "cpu") == op_precision("bf16", True, "torch") == "fp32"
    assert op_precision("bf16", False, "cpu") == "bf16"
