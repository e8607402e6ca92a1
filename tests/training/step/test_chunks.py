"""Where texts are cut into chunks."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.processes import rank, world_size
from hybatch.training.step.batches import BatchLoader, LocalBatch, equally_many_chunks
from hybatch.training.step.chunks import Cutting, cost_of_a_chunk
from tests.processes import run_processes
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


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40),
    chunk_size=st.one_of(st.none(), st.integers(1, 45)),
    chunk_tokens=st.integers(1, 200),
    cost=st.one_of(st.none(), st.just(8.0)),
    is_padded=st.booleans(),
)
def test_no_chunk_holds_more_texts_or_tokens_than_allowed_but_a_long_text_alone(
    lengths: list[int], chunk_size: int | None, chunk_tokens: int, cost: float | None, is_padded: bool
) -> None:
    cutting = Cutting(chunk_size=chunk_size, chunk_tokens=chunk_tokens, chunk_cost=cost, is_padded=is_padded)
    chunks = cutting.cut(_features(lengths, False), range(len(lengths)))
    assert sorted(slot for _, slots in chunks for slot in slots.tolist()) == list(range(len(lengths)))
    for part, slots in chunks:
        mask = part["attention_mask"]
        tokens = mask.numel() if is_padded else int(mask.sum())
        assert len(slots) <= (chunk_size or len(lengths))
        assert tokens <= chunk_tokens or len(slots) == 1


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40), chunk_tokens=st.integers(1, 200))
def test_without_padding_no_chunk_could_take_the_text_before_it(lengths: list[int], chunk_tokens: int) -> None:
    cutting = Cutting(chunk_tokens=chunk_tokens, chunk_cost=8.0, is_padded=False)
    chunks = [
        part["attention_mask"].sum(dim=1) for part, _ in cutting.cut(_features(lengths, False), range(len(lengths)))
    ]
    for shorter, longer in pairwise(chunks):
        assert int(shorter[-1]) <= int(longer[0])
        assert int(longer.sum()) + int(shorter[-1]) > chunk_tokens


def test_without_padding_and_limits_there_is_one_chunk() -> None:
    cutting = Cutting(chunk_cost=8.0, is_padded=False)
    assert len(cutting.cut(_features([1, 100] * 64, False), range(128))) == 1


def _facts(local: LocalBatch) -> tuple[int, list[int], int]:
    """Chunks, slots, tokens."""
    slots = sorted(slot for chunk in local.chunks for slot in chunk.slots_n.tolist())
    return len(local.chunks), slots, sum(int(chunk.features["attention_mask"].sum()) for chunk in local.chunks)


def _before_and_after(chunk_tokens: int) -> list[tuple[int, list[int], int]]:
    sampler: Any = TinySampler(batch_size=16)
    cutting = Cutting(chunk_tokens=chunk_tokens, equal_chunks=True)
    loader = BatchLoader(sampler=sampler, tokenize=tokenize, rank=rank(), world_size=world_size(), cutting=cutting)
    local = loader.load(1)
    return [_facts(local), _facts(equally_many_chunks(local))]


def test_processes_agree_on_a_number_of_chunks_and_lose_no_text() -> None:
    (first, first_after), (second, second_after) = run_processes(_before_and_after, 2, 8)
    assert first[0] != second[0]  # or there would be nothing to agree on
    assert first_after[0] == second_after[0] == max(first[0], second[0])
    assert first_after[1:] == first[1:]
    assert second_after[1:] == second[1:]


def test_a_large_bag_of_words_is_not_cut_and_a_deep_encoder_is() -> None:
    features = _features([1, 100] * 64, False)
    table = torch.nn.Embedding(64000, 16)
    bag, deep = torch.nn.Sequential(table), torch.nn.Sequential(table, torch.nn.Linear(1000, 1000))
    sizes = [len(Cutting(chunk_cost=cost_of_a_chunk(m)).cut(features, range(128))) for m in (bag, deep)]
    assert sizes[0] == 1
    assert sizes[1] > 1
