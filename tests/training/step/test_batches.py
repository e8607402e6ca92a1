"""A process's share of a batch: chunks, slots, hard negatives."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.losses import EMPTY_SLOT
from hybatch.training.step.batches import BatchLoader
from hybatch.training.step.chunks import Cutting, cost_of_a_chunk
from tests.training.tiny import TinySampler, tokenize


def _features(lengths: list[int], padded_left: bool) -> dict[str, torch.Tensor]:
    longest = max(lengths)
    ids = torch.zeros(len(lengths), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        place = slice(longest - length, None) if padded_left else slice(None, length)
        ids[row, place] = torch.arange(1, length + 1) + 100 * row
        mask[row, place] = 1
    return {"input_ids": ids, "attention_mask": mask}


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    chunk_size=st.one_of(st.none(), st.integers(1, 45)),
    padded_left=st.booleans(),
)
def test_chunks_hold_every_text_once_whole_and_without_needless_padding(
    lengths: list[int], chunk_size: int | None, padded_left: bool
) -> None:
    features = _features(lengths, padded_left)
    chunks = Cutting(chunk_size=chunk_size).cut(features, range(10, 10 + len(lengths)))
    assert sorted(slot for _, slots in chunks for slot in slots.tolist()) == list(range(10, 10 + len(lengths)))
    for part, slots in chunks:
        assert len(slots) <= (chunk_size or 10**9)
        if len(chunks) > 1:
            assert part["input_ids"].shape[1] == max(lengths[slot - 10] for slot in slots.tolist())
        for row, slot in enumerate(slots.tolist()):
            tokens = part["input_ids"][row][part["attention_mask"][row].bool()].tolist()
            assert tokens == [100 * (slot - 10) + i for i in range(1, lengths[slot - 10] + 1)]


def test_sorting_by_length_cuts_the_padding_of_uneven_texts() -> None:
    features = _features([1, 100] * 64, False)
    chunks = Cutting(chunk_cost=10.0).cut(features, range(128))
    padded = sum(part["attention_mask"].numel() for part, _ in chunks)
    assert padded < 0.6 * features["attention_mask"].numel()


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    largest=st.one_of(st.none(), st.integers(1, 9)),
    cost=st.floats(0, 500),
)
def test_no_other_cuts_would_cost_less(lengths: list[int], largest: int | None, cost: float) -> None:
    """Against every way to cut the sorted texts."""
    ascending = sorted(lengths)

    def total(ends: tuple[int, ...]) -> float:
        pieces = [ascending[i:j] for i, j in pairwise((0, *ends, len(lengths)))]
        if any(len(piece) > (largest or len(lengths)) for piece in pieces):
            return math.inf
        return sum(len(piece) * piece[-1] + cost for piece in pieces)

    inner = range(1, len(lengths))
    least = min(total(ends) for count in range(len(lengths)) for ends in combinations(inner, count))
    chunks = Cutting(chunk_size=largest, chunk_cost=cost).cut(_features(lengths, False), range(len(lengths)))
    assert sum(part["attention_mask"].numel() + cost for part, _ in chunks) == pytest.approx(least)
    assert all(len(slots) <= (largest or len(lengths)) for _, slots in chunks)


def test_a_large_bag_of_words_is_not_cut_and_a_deep_encoder_is() -> None:
    features = _features([1, 100] * 64, False)
    table = torch.nn.Embedding(64000, 16)
    bag, deep = torch.nn.Sequential(table), torch.nn.Sequential(table, torch.nn.Linear(1000, 1000))
    sizes = [len(Cutting(chunk_cost=cost_of_a_chunk(m)).cut(features, range(128))) for m in (bag, deep)]
    assert sizes[0] == 1
    assert sizes[1] > 1


def _loader(rank: int, world_size: int, negatives: int, **options: Any) -> BatchLoader:
    sampler: Any = TinySampler(num_negatives=2)
    return BatchLoader(
        sampler=sampler, tokenize=tokenize, rank=rank, world_size=world_size, hard_negatives=negatives, **options
    )


def test_processes_share_a_batch_without_gap_or_overlap() -> None:
    whole = _loader(0, 1, 0).load(4)
    parts = [_loader(rank, 4, 0).load(4) for rank in range(4)]
    assert torch.equal(torch.cat([part.groups_Q for part in parts]), whole.groups_Q)
    assert sum(part.num_tokens for part in parts) == whole.num_tokens


@pytest.mark.parametrize("world_size", [1, 2])
def test_hard_negatives_fill_their_slots_and_missing_ones_stay_empty(world_size: int) -> None:
    sampler = TinySampler(num_negatives=2)
    batch = sampler.batch(1)
    listed = sampler.texts(batch).hard_negative_groups
    groups = torch.cat([_loader(r, world_size, 2).load(1).negative_groups_QN for r in range(world_size)])  # type: ignore[misc]
    for row, options in zip(groups.tolist(), listed, strict=True):
        there = [group for group in row if group != EMPTY_SLOT]
        assert len(there) == min(2, len(options))
        assert all(group in options for group in there)


def test_other_hard_negatives_come_at_other_steps_and_the_same_on_any_number_of_processes() -> None:
    def chosen(world_size: int, step: int) -> list[str]:
        loaders = [_loader(rank, world_size, 1) for rank in range(world_size)]
        sampler: Any = loaders[0].sampler
        fixed = sampler.texts(sampler.batch(0))
        return [text for loader in loaders[:1] for _, text, _ in loader._choose_negatives(fixed, step)]

    assert chosen(1, 0) == chosen(2, 0)
    assert len({tuple(chosen(1, step)) for step in range(8)}) > 1
