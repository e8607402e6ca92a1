"""What a step makes of translations: batches of them, and those that an alignment term asks for beside any batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from hybatch.losses import ContrastiveLoss
from hybatch.models import Role
from hybatch.sampling.companions.translations import NO_LANGUAGE, translation_languages, translations
from hybatch.training.step.batches import BatchLoader
from hybatch.training.step.caching import loss_of_embeddings
from hybatch.training.step.chunks import Cutting
from hybatch.training.strategy.text_chunk import Features
from tests.sampling.corpora import full_corpus, sampler_of
from tests.training.tiny import tokenize, translating_sampler

LANGUAGES = ("ar", "de", "en")


class _Heard:
    """A tokenizer that remembers what it was given."""

    def __init__(self) -> None:
        self.texts: list[tuple[Role, str]] = []

    def __call__(self, texts: Sequence[str], role: Role) -> Features:
        self.texts += [(role, text) for text in texts]
        return tokenize(list(texts), role)


def test_both_sides_of_a_batch_of_translations_are_encoded_as_passages() -> None:
    heard = _Heard()
    sampler = sampler_of(full_corpus(60, LANGUAGES), mixture={"bitext": 0.5, "x-y": 0.5}, batch_size=6)
    loader = BatchLoader(sampler=sampler, tokenize=heard)
    for step in range(10):
        heard.texts.clear()
        kind = loader.load(step).batch.kind
        query = ("passage", "p") if kind == "bitext" else ("query", "q")
        assert [(role, text[-1]) for role, text in heard.texts] == [query] * 6 + [("passage", "p")] * 6


@pytest.mark.parametrize("kind", ["bitext", "x-y"])
def test_a_batch_of_translations_counts_both_ways_and_any_other_as_the_loss_says(kind: str) -> None:
    sampler = sampler_of(full_corpus(60, LANGUAGES), kind=kind, batch_size=6)
    local = BatchLoader(sampler=sampler, tokenize=tokenize).load(3)
    embeddings = torch.nn.functional.normalize(torch.randn(12, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    one_way, both_ways = (
        loss_of_embeddings(ContrastiveLoss(temperature=0.1, symmetric=symmetric), local, embeddings).loss
        for symmetric in (False, True)
    )
    assert (one_way.item() == both_ways.item()) == (kind == "bitext")


@pytest.mark.parametrize("equal_chunks", [False, True])
@pytest.mark.parametrize("world_size", [1, 3])
def test_translations_are_encoded_as_their_queries_in_slots_of_their_own(world_size: int, equal_chunks: bool) -> None:
    sampler = translating_sampler(batch_size=12)
    options: dict[str, Any] = {"cutting": Cutting(equal_chunks=equal_chunks), "world_size": world_size}
    for step in range(6):
        batch = sampler.batch(step)
        languages = translation_languages(sampler, batch)
        with_translation = np.flatnonzero(languages != NO_LANGUAGE)
        texts = translations(sampler, batch, with_translation, languages[with_translation])
        locals_ = [
            BatchLoader(
                sampler=sampler, tokenize=tokenize, rank=rank, hard_negatives=1, translations=True, **options
            ).load(step)
            for rank in range(world_size)
        ]
        share = 12 // world_size
        found = [rank * share + row for rank, local in enumerate(locals_) for row in local.translated_A.tolist()]
        assert found == with_translation.tolist()
        assert {local.num_translated for local in locals_} == {len(found)}
        role: Role = "passage" if batch.kind == "bitext" else "query"
        for rank, local in enumerate(locals_):
            tokens = {
                slot: chunk.features["input_ids"][row][chunk.features["attention_mask"][row].bool()].tolist()
                for chunk in local.chunks
                for row, slot in enumerate(chunk.slots_n.tolist())
            }
            own = {row: text for row, text in zip(found, texts, strict=True) if row // share == rank}
            for row, text in own.items():
                assert tokens[3 * share + row % share] == tokenize([text], role)["input_ids"][0].tolist()
            behind = [slot for slot in tokens if slot >= 3 * share]
            assert len(behind) == (share if equal_chunks else len(own))


def test_what_is_encoded_beside_a_batch_leaves_its_chunks_and_their_dropout_as_they_are() -> None:
    sampler = translating_sampler(batch_size=12)
    for step in range(6):
        without, beside = (
            BatchLoader(
                sampler=sampler, tokenize=tokenize, cutting=Cutting(chunk_size=4), translations=translations
            ).load(step)
            for translations in (False, True)
        )
        kept = [chunk for chunk in beside.chunks if int(chunk.slots_n[0]) < 24]
        assert [(c.seed, c.slots_n.tolist()) for c in kept] == [(c.seed, c.slots_n.tolist()) for c in without.chunks]
        assert kept[-1] is beside.chunks[-1]
        assert len({chunk.seed for chunk in beside.chunks}) == len(beside.chunks) > len(without.chunks)
