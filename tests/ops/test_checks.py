"""Checks of values: collected, settled by one read, and refused in the order in which they were made."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybatch.ops.checks import ValueChecks

FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
NOT_FINITE = (float("nan"), float("inf"), -float("inf"))


def _refuse() -> None:
    raise ValueError("not finite")


@given(
    dtype=st.sampled_from(FLOATING),
    shape=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    bad=st.sampled_from(NOT_FINITE),
    place=st.integers(0, 40 * 40 - 1),
    transposed=st.booleans(),
)
def test_one_value_that_is_not_finite_is_found_anywhere(
    dtype: torch.dtype, shape: tuple[int, int], bad: float, place: int, transposed: bool
) -> None:
    values = torch.linspace(-6e4, 6e4, shape[0] * shape[1]).to(dtype).view(shape)
    with ValueChecks() as checks:
        checks.finite(values, _refuse)
    if values.numel():
        values.view(-1)[place % values.numel()] = bad
        with pytest.raises(ValueError, match="not finite"), ValueChecks() as checks:
            checks.finite(values.t() if transposed else values, _refuse)


def test_faults_are_refused_in_the_order_of_the_checks() -> None:
    entries = torch.tensor([0, 5, 2])
    checks = ValueChecks()
    checks.in_range("first", entries, 6)
    checks.in_range("second", entries.to(torch.uint8), 5)
    checks.offsets("third", entries, 2)
    checks.finite(torch.tensor([[torch.nan]]), _refuse)
    with pytest.raises(ValueError, match=r"second: entry 1 is 5, outside \[0, 5\)"):
        checks.settle()


def _fail_after_a_check_of(entry: int) -> None:
    with ValueChecks() as checks:
        checks.in_range("entries", torch.tensor([entry]), 6)
        raise TypeError("later")


def test_an_exception_gives_way_to_the_faults_before_it_and_to_nothing_else() -> None:
    with pytest.raises(ValueError, match="entries: entry 0 is -1"):
        _fail_after_a_check_of(-1)
    with pytest.raises(TypeError, match="later"):
        _fail_after_a_check_of(1)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8])
def test_offsets_are_refused_in_every_dtype_of_integers(dtype: torch.dtype) -> None:
    wrong = {"must not descend, but entry 1 is 3 and the next 2": [0, 3, 2, 4], "runs from 1 to 4": [1, 4]}
    wrong["runs from 0 to 3"] = [0, 3]
    for message, offsets in wrong.items():
        with pytest.raises(ValueError, match=message), ValueChecks() as checks:
            checks.offsets("offsets", torch.tensor(offsets, dtype=dtype), 4)
    with ValueChecks() as checks:
        checks.offsets("offsets", torch.tensor([0, 0, 4, 4], dtype=dtype), 4)
        checks.offsets("none", torch.zeros(1, dtype=dtype), 0)


def test_what_is_settled_is_not_asked_again() -> None:
    checks = ValueChecks()
    checks.in_range("entries", torch.tensor([7]), 6)
    with pytest.raises(ValueError, match="entries"):
        checks.settle()
    checks.settle()


def test_checks_that_are_not_enabled_ask_nothing() -> None:
    with ValueChecks(enabled=False) as checks:
        checks.in_range("entries", torch.tensor([7]), 6)
        checks.offsets("offsets", torch.tensor([3, 1]), 4)
        checks.finite(torch.tensor([torch.nan]), _refuse)
