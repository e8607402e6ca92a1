"""What a step makes of translations: batches of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from hybatch.losses import ContrastiveLoss
from hybatch.models import Role
from hybatch.training.step.batches import BatchLoader
from hybatch.training.step.caching import loss_of_embeddings
from hybatch.training.strategy.text_chunk import Features
from tests.sampling.corpora import full_corpus, sampler_of
from tests.training.tiny import tokenize

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
