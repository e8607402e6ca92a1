"""Several positives of an example in a process's share of a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hybatch.sampling.companions.positives import draw_positives
from hybatch.training.step.batches import BatchLoader, LocalBatch
from hybatch.training.step.chunks import Cutting
from tests.training.tiny import TinySampler, tokenize


def _load(rank: int, world_size: int, *, several: bool = True, **options: Any) -> LocalBatch:
    sampler: Any = TinySampler(num_negatives=2, several_positives=several)
    loader = BatchLoader(
        sampler=sampler, tokenize=tokenize, rank=rank, world_size=world_size, hard_negatives=2, **options
    )
    return loader.load(4)


def _tokens(local: LocalBatch) -> dict[int, list[int]]:
    """Slot -> the tokens that are encoded in it."""
    return {
        slot: chunk.features["input_ids"][row][chunk.features["attention_mask"][row].bool()].tolist()
        for chunk in local.chunks
        for row, slot in enumerate(chunk.slots_n.tolist())
    }


def _as_tokens(text: str) -> list[int]:
    return tokenize([text], "passage")["input_ids"][0].tolist()


@pytest.mark.parametrize("equal_chunks", [False, True])
@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_every_process_encodes_its_own_in_as_many_slots(world_size: int, most: int | None, equal_chunks: bool) -> None:
    sampler: Any = TinySampler(num_negatives=2, several_positives=True)
    batch = sampler.batch(4)
    drawn = draw_positives(sampler, batch, slice(0, 8), most)
    assert drawn is not None
    share = 8 // world_size
    cutting = Cutting(equal_chunks=equal_chunks)
    locals_ = [_load(rank, world_size, positives=most, cutting=cutting) for rank in range(world_size)]
    slots = {local.further.num_slots for local in locals_ if local.further is not None}
    assert slots == {max(sum(len(d) - 1 for d in drawn[r * share : (r + 1) * share]) for r in range(world_size))}
    for rank, local in enumerate(locals_):
        own, further, tokens = drawn[rank * share : (rank + 1) * share], local.further, _tokens(local)
        assert further is not None
        assert further.most == max(map(len, drawn))
        for row, listed in enumerate(own):
            assert tokens[share + row] == _as_tokens(listed[0][0])
        others = [(row, text, weight) for row, listed in enumerate(own) for text, weight in listed[1:]]
        for slot, (row, text, weight) in enumerate(others):
            assert tokens[4 * share + slot] == _as_tokens(text)
            assert further.query_E[slot] == row
            assert further.weights_E[slot].item() == pytest.approx(weight)
        assert further.query_E[len(others) :].tolist() == [share] * (further.num_slots - len(others))
        sums = further.weights_Q.clone().index_add(0, further.query_E[: len(others)], further.weights_E[: len(others)])
        assert torch.allclose(sums, torch.ones(share))
        assert not further.weights_E[len(others) :].any()
        assert len([slot for slot in tokens if slot >= 4 * share]) == (
            further.num_slots if equal_chunks else len(others)
        )
    if equal_chunks:
        assert len({len(_tokens(local)) for local in locals_}) == 1


def test_one_positive_a_step_stands_in_the_place_of_the_passage() -> None:
    sampler: Any = TinySampler(num_negatives=2, several_positives=True)
    drawn = draw_positives(sampler, sampler.batch(4), slice(0, 8), 1)
    assert drawn is not None
    local = _load(0, 1, positives=1)
    assert local.further is None
    tokens = _tokens(local)
    assert [tokens[8 + row] for row in range(8)] == [_as_tokens(text) for ((text, _),) in drawn]


def test_without_further_positives_a_process_is_given_what_it_is_given_of_one() -> None:
    one, all_of_them = (_load(0, 1, several=False, positives=most) for most in (1, None))
    assert all_of_them.further is None
    assert _tokens(one) == _tokens(all_of_them)


def test_what_is_encoded_last_is_a_chunk_of_passages() -> None:
    local = _load(0, 1, positives=None, cutting=Cutting(chunk_size=3))
    assert int(local.chunks[-1].slots_n.min()) >= 8
