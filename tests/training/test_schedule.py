"""The learning rate's course."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybatch.training.schedule import ScheduleShape, learning_rate_factor

SHAPES: tuple[ScheduleShape, ...] = get_args(ScheduleShape)


@pytest.mark.parametrize("shape", SHAPES)
@given(total=st.integers(1, 200), data=st.data())
def test_it_rises_over_the_warm_up_and_never_after(shape: ScheduleShape, total: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, total))
    course = [learning_rate_factor(s, total_steps=total, warmup_steps=warmup, shape=shape) for s in range(total)]
    assert all(0 < factor <= 1 for factor in course)
    assert all(a < b for a, b in pairwise(course[:warmup]))
    assert all(a >= b for a, b in pairwise(course[warmup:]))
    if warmup < total:
        assert course[warmup] == 1.0


def test_known_points() -> None:
    def at(step: int, shape: ScheduleShape) -> float:
        return learning_rate_factor(step, total_steps=110, warmup_steps=10, shape=shape)

    assert at(4, "linear") == pytest.approx(5 / 11)
    assert at(60, "linear") == pytest.approx(0.5)
    assert at(60, "cosine") == pytest.approx(0.5)
    assert at(35, "cosine") == pytest.approx(0.8535534)
    assert at(109, "constant") == 1.0
