"""A translation of a query: in another language that the example has it in, drawn evenly, a function of the step."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.errors import UserError
from hybatch.sampling import KINDS
from hybatch.sampling.companions.translations import (
    NO_LANGUAGE,
    translation_languages,
    translations,
    without_translations,
)
from tests.sampling.chi_square import chance_of_counts
from tests.sampling.corpora import FakeCorpus, fresh_folder, full_corpus, ragged_corpus, sampler_of
from tests.sampling.patience import PATIENT

LANGUAGES = ("ar", "de", "el", "en", "vi")


@pytest.mark.parametrize("kind", KINDS)
@settings(PATIENT, max_examples=4)
@given(corpus_seed=st.integers(0, 10_000), seed=st.integers(0, 2**40))
def test_it_is_the_same_text_in_another_language_trained_on_wherever_there_is_one(
    kind: str, corpus_seed: int, seed: int
) -> None:
    corpus = ragged_corpus(300, LANGUAGES, seed=corpus_seed)
    sampler = sampler_of(corpus, kind=kind, exclude_languages=["el"], batch_size=20, seed=seed, total_steps=5)
    for batch in map(sampler.batch, range(5)):
        languages = translation_languages(sampler, batch)
        query = KINDS[kind].query_text
        masks = (corpus.question_mask if query == "question" else corpus.passage_mask)(batch.examples).tolist()
        for language, mask, own in zip(languages, masks, batch.question_languages, strict=True):
            others = {k for k in range(5) if mask >> k & 1} - {int(own), LANGUAGES.index("el")}
            assert language in (others or {NO_LANGUAGE})
        rows = np.flatnonzero(languages != NO_LANGUAGE)
        texts = translations(sampler, batch, rows, languages[rows])
        expected = zip(batch.examples[rows], languages[rows], strict=True)
        assert texts == [f"{example} {LANGUAGES[language]} {query[0]}" for example, language in expected]


def test_every_other_language_comes_alike_and_by_seed_and_step_alone() -> None:
    def drawn(seed: int, order: Any) -> dict[int, list[int]]:
        sampler = sampler_of(full_corpus(200, LANGUAGES), kind="x-x", batch_size=50, total_steps=60, seed=seed)
        return {step: translation_languages(sampler, sampler.batch(step)).tolist() for step in order}

    forwards = drawn(1, range(60))
    assert drawn(1, reversed(range(60))) == forwards
    assert drawn(2, range(60)) != forwards
    sampler = sampler_of(full_corpus(200, LANGUAGES), kind="x-x", batch_size=50, total_steps=60, seed=1)
    pairs: Counter[tuple[int, int]] = Counter()
    for step, languages in forwards.items():
        pairs.update(zip(sampler.batch(step).question_languages.tolist(), languages, strict=True))
    assert len(pairs) == 20
    for own in range(5):
        assert chance_of_counts([count for (query, _), count in pairs.items() if query == own]) > 1e-4


def test_examples_without_translations_are_counted_by_data_set_and_text() -> None:
    # Of the second half the questions are in one language only.
    masks = {"question_mask": [3] * 50 + [1] * 50, "passage_mask": [3] * 100}
    corpus = FakeCorpus(fresh_folder(), languages=("de", "en"), name="half", **masks)
    whole = full_corpus(90, ("de", "en"), name="whole")
    sampler = sampler_of(corpus, whole, mixture={"bitext": 0.5, "x-y": 0.5}, batch_size=10)
    line = "without alignment: half: 50 of 100 examples have no question in a second language trained on"
    assert without_translations(sampler, progress=False) == [line]


@pytest.mark.parametrize("options", [{}, {"languages": ["de"], "kind": "x-x-mono"}])
def test_alignment_of_what_stands_in_one_language_is_refused(options: dict[str, Any]) -> None:
    masks = {"question_mask": [1] * 100, "passage_mask": [3] * 100}
    corpus = FakeCorpus(fresh_folder(), languages=("de", "en"), name="mine", **masks)
    sampler = sampler_of(corpus, **{"kind": "x-y", "batch_size": 10, **options})
    with pytest.raises(UserError) as refused:
        without_translations(sampler, progress=False)
    assert str(refused.value) == (
        "loss.alignment brings queries and their translations together, but there are none:\n"
        "  mine: 100 of 100 examples have no question in a second language trained on\n"
        "Add data or languages, or leave loss.alignment out."
    )
