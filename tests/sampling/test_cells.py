"""Which cells there are, which are left out and what the user is told about it."""

from __future__ import annotations

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.sampling import KINDS, SamplingConfig
from hybatch.sampling.cells import find_cells
from tests.sampling.corpora import FakeCorpus, few_thai, fresh_folder, full_corpus, ragged_corpus, sampler_of


def test_a_language_with_fewer_passages_than_a_batch_is_excluded_and_reported() -> None:
    sampler = sampler_of(few_thai(), kind="x-x-mono", batch_size=100)
    (excluded,) = sampler.excluded
    assert (excluded.dataset, excluded.kind, excluded.language, excluded.num_groups) == (
        "sentences",
        "x-x-mono",
        "th",
        74,
    )
    assert str(excluded) == "sentences, x-x-mono th: 74 usable examples are fewer than a batch of 100"
    assert {sampler.batch(step).language for step in range(50)} == {0, 1}


def test_distinct_passages_count_and_not_examples() -> None:
    corpus = full_corpus(300, ("de", "en"), groups=[row // 10 for row in range(300)])
    with pytest.raises(UserError, match="300 usable examples have only 30 distinct passages, fewer than a batch of 31"):
        sampler_of(corpus, kind="x-y", batch_size=31)
    assert not sampler_of(corpus, kind="x-y", batch_size=30).excluded


def test_english_only_data_have_no_cross_lingual_cell_and_hybrid_uses_them_monolingually() -> None:
    english, both = full_corpus(400, ("en",), name="faq"), full_corpus(400, ("de", "en"), name="pairs")
    sampler = sampler_of(english, both, kind="hybrid", batch_size=10)
    assert [str(cell) for cell in sampler.excluded] == [
        "faq, x-y: en is the only one of its languages trained on, two are needed"
    ]
    seen = {(batch.kind, batch.dataset) for batch in map(sampler.batch, range(50))}
    assert seen == {("x-x-mono", 0), ("x-x-mono", 1), ("x-y", 1)}


def test_examples_that_no_second_language_shares_are_counted_as_unusable() -> None:
    masks = [0b01, 0b10, 0b11] * 40
    corpus = FakeCorpus(fresh_folder(), languages=("de", "en"), question_mask=masks, passage_mask=masks)
    (cell,) = sampler_of(corpus, kind="x-y", batch_size=20).cells
    assert len(cell.usable) == 40
    alone = FakeCorpus(fresh_folder(), languages=("de", "en"), question_mask=[1, 2] * 50, passage_mask=[1, 2] * 50)
    with pytest.raises(UserError, match="no example has a question and a passage in two different languages"):
        sampler_of(alone, kind="x-y", batch_size=20)


def test_a_kind_without_any_cell_is_refused_and_not_replaced_by_the_other() -> None:
    with pytest.raises(UserError) as caught:
        sampler_of(full_corpus(400, ("en",), name="faq"), few_thai(), kind="hybrid", batch_size=301)
    message = str(caught.value)
    assert (
        "sampling.kind is hybrid, but no data set can fill a batch of kind x-y and sampling.batch_size 301" in message
    )
    assert "faq, x-y: en is the only one" in message
    assert "sentences, x-y: 300 usable examples are fewer than a batch of 301" in message
    assert "sentences, x-x-mono th" in message
    assert "Lower sampling.batch_size" in message


@pytest.mark.parametrize("options", [{"alpha": 1.0}, {"kind": "sequential", "share": 1.0}])
def test_a_kind_that_is_never_drawn_needs_no_cell(options: dict[str, object]) -> None:
    sampler = sampler_of(full_corpus(400, ("en",)), batch_size=10, **options)
    assert {cell.kind for cell in sampler.cells} == {"x-x-mono"}


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"kind": "sequential", "share": 0.0}])
def test_without_monolingual_steps_there_are_no_monolingual_cells(options: dict[str, object]) -> None:
    sampler = sampler_of(full_corpus(400, ("de", "en")), batch_size=10, **options)
    assert [cell.kind for cell in sampler.cells] == ["x-y"]


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS.values() if "en" in kind.fixed_languages])
def test_kinds_with_english_need_english(kind: str) -> None:
    with pytest.raises(UserError, match="English is not among"):
        sampler_of(full_corpus(400, ("de", "el")), kind=kind, batch_size=10)
    with pytest.raises(UserError, match="English is not among"):
        sampler_of(full_corpus(400, ("de", "en")), kind=kind, batch_size=10, exclude_languages=["en"])


def test_english_passages_alone_serve_questions_in_other_languages_and_nothing_else() -> None:
    # Questions in German, and English; passages in English alone.
    masks = {"question_mask": [0b11] * 100, "passage_mask": [0b10] * 100}
    corpus = FakeCorpus(fresh_folder(), languages=("de", "en"), **masks)
    sampler = sampler_of(corpus, kind="x-en", batch_size=10)
    assert set(sampler.batch(0).question_languages.tolist()) == {0}
    with pytest.raises(
        UserError, match="no example has a question in English and a passage in a language trained on other"
    ):
        sampler_of(corpus, kind="en-x", batch_size=10)


def test_batches_of_translations_need_passages_in_two_languages_and_no_questions() -> None:
    no_questions = FakeCorpus(fresh_folder(), languages=("de", "en"), question_mask=[0] * 99, passage_mask=[3] * 99)
    assert len(sampler_of(no_questions, kind="bitext", batch_size=33).cells[0].usable) == 99
    questions = FakeCorpus(fresh_folder(), languages=("de", "en"), question_mask=[3] * 99, passage_mask=[1, 2, 1] * 33)
    assert len(sampler_of(questions, kind="x-y", batch_size=33).cells[0].usable) == 99
    with pytest.raises(UserError, match="fake, bitext: no example has passages in two different languages trained on"):
        sampler_of(questions, mixture={"bitext": 0.1, "x-y": 0.9}, batch_size=33)
    with pytest.raises(UserError, match="fake, bitext: de is the only one of its languages trained on, two are needed"):
        sampler_of(no_questions, kind="bitext", languages=["de"], batch_size=33)


def test_a_data_set_without_the_languages_trained_on_is_reported() -> None:
    german, greek = full_corpus(100, ("de", "en")), full_corpus(100, ("el",), name="greek")
    sampler = sampler_of(german, greek, kind="x-x", batch_size=10, exclude_languages=["el"])
    assert [str(cell) for cell in sampler.excluded] == ["greek, x-x: it has none of the languages trained on"]


def test_an_id_counts_once_for_its_data_set_in_however_many_languages_it_stands() -> None:
    corpus = ragged_corpus(400, ("de", "en", "th"))
    both = corpus.question_mask(slice(None)) & corpus.passage_mask(slice(None))
    config = SamplingConfig(kind="x-x-mono", batch_size=5)
    table = find_cells([corpus], config, kinds=["x-x-mono"], languages=("de", "en", "th"), seed=0, progress=False)
    assert table.num_ids == {("x-x-mono", 0): np.count_nonzero(both)}


def test_ids_of_excluded_cells_only_do_not_count_for_their_data_set() -> None:
    masks = [0b01] * 50 + [0b10] * 300 + [0b11] * 10
    corpus = FakeCorpus(fresh_folder(), languages=("de", "en"), question_mask=masks, passage_mask=masks)
    config = SamplingConfig(kind="x-x-mono", batch_size=100)
    table = find_cells([corpus], config, kinds=["x-x-mono"], languages=("de", "en"), seed=0, progress=False)
    assert [cell.language for cell in table.excluded] == ["de"]
    assert table.num_ids == {("x-x-mono", 0): 310}


def test_no_corpora_and_no_steps_are_refused() -> None:
    with pytest.raises(UserError, match="corpora is empty"):
        sampler_of()
    with pytest.raises(UserError, match="0 steps"):
        sampler_of(full_corpus(10, ("de", "en")), total_steps=0, batch_size=2)
    with pytest.raises(UserError, match="seed is -1"):
        sampler_of(full_corpus(10, ("de", "en")), seed=-1, batch_size=2)
