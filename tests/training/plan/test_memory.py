"""Memory per strategy: the arithmetic of what is cut into parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybatch.training.plan.activations import ActivationProfile
from hybatch.training.plan.memory import (
    ParameterCounts,
    Workload,
    cache_bytes,
    largest_chunk_size,
    plan_memory,
    strategies,
)

COUNTS = ParameterCounts(all=1000, learning=900, layer=100, outside=400, learning_layer=100, learning_outside=300)
WORK = Workload(batch_size=64, chunk_size=None, negatives=0, ring=False, dense=None, checkpointing=False, width=8)
PROFILE = ActivationProfile(
    layers=6,
    layer_per_text=50.0,
    outside_per_text=20.0,
    layer_fixed=0.0,
    outside_fixed=0.0,
    widest_per_text=10.0,
    hidden_per_text=5.0,
)


def memory(strategy: Any, devices: int, **changes: Any) -> Any:
    work = replace(WORK, **changes)
    return plan_memory(strategy, devices=devices, counts=COUNTS, work=work, queries=PROFILE, passages=PROFILE)


def test_without_sharding_adamw_takes_sixteen_bytes_a_learning_parameter_and_four_a_frozen_one() -> None:
    for strategy, devices in (("none", 1), ("ddp", 4)):
        found = memory(strategy, devices)
        assert found.weights + found.gradients + found.optimizer == 16 * 900 + 4 * 100


def test_a_frozen_backbone_takes_neither_gradients_nor_moments_and_less_room_to_exchange_them() -> None:
    frozen = replace(COUNTS, learning=20, learning_layer=10, learning_outside=0)
    arguments: dict[str, Any] = {"work": WORK, "queries": PROFILE, "passages": PROFILE}
    for strategy in strategies(4):
        full, found = (plan_memory(strategy, devices=4, counts=counts, **arguments) for counts in (COUNTS, frozen))
        assert found.weights == full.weights
        assert full.host - found.host == (16 * 880 / 4 if strategy == "zero3-offload" else 0)
        assert found.gradients * 900 == full.gradients * 20
        assert found.optimizer * 900 == full.optimizer * 20
        assert (full.buffers - found.buffers) / 4 == {
            "ddp": 0, "zero1": 2 * 880, "zero2": 2 * 880, "zero3": 880, "zero3-offload": 880, "fsdp2": 2 * (300 - 10)
        }[strategy]  # fmt: skip


def test_each_stage_cuts_one_thing_more() -> None:
    one, two, three, fsdp = (memory(name, 4) for name in ("zero1", "zero2", "zero3", "fsdp2"))
    assert (one.weights, one.gradients, one.optimizer) == (4000, 3600, 12 * 900 / 4)
    assert (two.weights, two.gradients, two.optimizer) == (4000, 3600 / 4, 12 * 900 / 4)
    assert (three.weights, three.gradients, three.optimizer) == (1000, 3600 / 4, 12 * 900 / 4)
    assert (fsdp.weights, fsdp.gradients, fsdp.optimizer) == (1000, 3600 / 4, 8 * 900 / 4)


def test_offload_moves_what_is_cut_to_the_host_and_loses_none_of_it() -> None:
    there, moved = memory("zero3", 4), memory("zero3-offload", 4)
    assert moved.weights == moved.gradients == moved.optimizer == 0
    assert moved.host == there.weights + there.gradients + there.optimizer
    assert moved.total + moved.host == there.total


@given(st.sampled_from(strategies(8)[1:]), st.integers(1, 5), st.integers(0, 6))
def test_more_devices_never_need_more_memory_each(strategy: Any, few: int, more: int) -> None:
    fewer, many = (memory(strategy, 2**n) for n in (few, min(6, few + more)))
    assert many.total <= fewer.total


@given(st.integers(1, 63))
def test_a_chunk_takes_less_than_the_whole_and_the_largest_that_fits_fits(chunk_size: int) -> None:
    whole, chunked = memory("none", 1), memory("none", 1, chunk_size=chunk_size)
    assert chunked.activations < whole.activations
    capacity = chunked.total / 0.9
    arguments: dict[str, Any] = {"devices": 1, "counts": COUNTS, "queries": PROFILE, "passages": PROFILE}
    found = largest_chunk_size("none", capacity=capacity, work=WORK, **arguments)
    assert found is not None
    assert found <= chunk_size < 2 * found
    assert memory("none", 1, chunk_size=found).fits(capacity)
    assert largest_chunk_size("none", capacity=1.0, work=WORK, **arguments) is None


def test_caches_hold_no_matrix_of_all_logits_where_the_loss_streams() -> None:
    large = replace(WORK, batch_size=65536, width=768)
    dense, streaming = (cache_bytes(replace(large, dense=dense), 1) for dense in (True, False))
    assert dense > 4 * 65536**2
    assert streaming < 3e9
    assert cache_bytes(large, 1) == streaming
    # Queries and passages of the device, gathered passages, the gradients of all, 2 x 2 matrices of logits.
    tiny = replace(WORK, batch_size=2, width=8)
    assert cache_bytes(tiny, 1) == pytest.approx(2 * 4 * 8 * (2 + 2 + 2) + 4 * 4 * 4)


@given(st.integers(4, 64), st.integers(0, 3))
def test_in_a_ring_the_caches_grow_with_a_devices_share_of_the_batch_alone(devices: int, negatives: int) -> None:
    def caches(number: int, **changes: bool) -> float:
        return cache_bytes(replace(WORK, batch_size=4096 * number, negatives=negatives, dense=False, **changes), number)

    assert caches(devices, ring=True) == caches(3, ring=True) < caches(devices)


def test_translations_take_what_as_many_queries_more_would_and_no_matrix() -> None:
    plain, beside = memory("none", 1), memory("none", 1, translations=True)
    assert beside.activations - plain.activations == 64 * (20 + 6 * 50) + 2 * 64 * 10
    large = replace(WORK, batch_size=65536, width=768, dense=False)
    assert cache_bytes(replace(large, translations=True), 1) - cache_bytes(large, 1) == 2 * 4 * 768 * 65536


@pytest.mark.parametrize(("dense", "matrices"), [(True, 2), (False, 0)])
def test_of_every_width_what_is_compared_its_gradients_and_a_dense_loss_are_kept(dense: bool, matrices: int) -> None:
    plain = replace(WORK, batch_size=4096, dense=dense, negatives=1)
    nested = replace(plain, leading=(4, 2))
    embeddings = 2 * 4 * (4 + 2) * (1024 + 2 * 4096)
    assert cache_bytes(nested, 4) - cache_bytes(plain, 4) == embeddings + 2 * matrices * 4 * 1024 * 2 * 4096
    ring = replace(nested, ring=True)
    assert cache_bytes(ring, 4) - cache_bytes(replace(plain, ring=True), 4) == 2 * 4 * (4 + 2) * (1024 + 2 * 1024)


def test_positives_are_planned_as_passages() -> None:
    several, negatives = (memory("ddp", 4, **changes) for changes in ({"positives": 3}, {"negatives": 2}))
    assert several == negatives
    assert several.activations > memory("ddp", 4).activations
