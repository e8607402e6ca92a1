"""A process's share of a batch: chunks, slots, hard negatives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hybatch.losses import EMPTY_SLOT
from hybatch.training.step.batches import BatchLoader
from tests.training.tiny import TinySampler, score_of, tokenize


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


def test_every_hard_negative_that_is_taken_brings_its_own_score() -> None:
    for step in range(3):
        parts = [_loader(rank, 2, 2, scores=True).load(step) for rank in range(2)]
        examples = parts[0].batch.examples.tolist()
        groups = torch.cat([part.negative_groups_QN for part in parts])  # type: ignore[misc]
        scores = torch.cat([part.scores_QM for part in parts])  # type: ignore[misc]
        for example, row, found in zip(examples, groups.tolist(), scores.tolist(), strict=True):
            # The group tells which of the example's hard negatives stands there.
            places = [None if group == EMPTY_SLOT else (group + 1 - example) % 1000 for group in row]
            wanted = [math.nan if place is None else score_of(example + 1 + place) for place in places]
            assert found == pytest.approx([score_of(example), *wanted], nan_ok=True)


def test_other_hard_negatives_come_at_other_steps_and_the_same_on_any_number_of_processes() -> None:
    def chosen(world_size: int, step: int) -> list[str]:
        loaders = [_loader(rank, world_size, 1) for rank in range(world_size)]
        sampler: Any = loaders[0].sampler
        fixed = sampler.texts(sampler.batch(0))
        return [text for loader in loaders[:1] for _, text, _ in loader._choose_negatives(fixed, step)]

    assert chosen(1, 0) == chosen(2, 0)
    assert len({tuple(chosen(1, step)) for step in range(8)}) > 1
