"""Batches prepared ahead arrive as from a plain loop, errors included."""

from __future__ import annotations

import threading
import time

import pytest

from hybatch.training.step.prefetch import Prefetcher


def test_items_come_in_order_and_all() -> None:
    with Prefetcher(lambda step: step * step, range(3, 50), depth=2) as items:
        assert list(items) == [step * step for step in range(3, 50)]


def test_an_error_is_raised_where_its_step_is_asked_for() -> None:
    def prepare(step: int) -> int:
        if step == 5:
            raise ValueError("step five")
        return step

    with Prefetcher(prepare, range(10)) as prefetcher:
        items = iter(prefetcher)
        assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError, match="step five"):
            next(items)


def test_it_works_ahead_but_no_further_than_its_depth() -> None:
    prepared: list[int] = []
    with Prefetcher(lambda step: prepared.append(step), range(100), depth=3) as items:
        next(iter(items))
        time.sleep(0.3)
        assert 3 <= len(prepared) <= 5


def test_leaving_early_stops_the_thread() -> None:
    before = threading.active_count()
    with Prefetcher(lambda step: step, range(10**9)) as items:
        next(iter(items))
    assert threading.active_count() == before
