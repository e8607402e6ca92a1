"""A batch is a pure function of its step, repeats nothing, draws only texts that exist, and wastes little."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.errors import UserError
from hybatch.sampling import COMPOSITIONS, KINDS, BatchSampler, GlobalBatch, SamplingConfig, ShareSchedule
from hybatch.sampling.companions.answers import join_answers
from hybatch.sampling.keyed import KeyedPermutation, subkey
from tests.sampling.chi_square import chance_of_counts
from tests.sampling.corpora import FakeCorpus, fresh_folder, full_corpus, ragged_corpus, sampler_of
from tests.sampling.patience import PATIENT

LANGUAGES = ("ar", "de", "el", "en", "vi")
VALUES = [*KINDS, *COMPOSITIONS]


def plain(batch: GlobalBatch) -> dict[str, object]:
    """A batch as plain values, to compare."""
    values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def skewed_groups(num_groups: int, num_examples: int, seed: int) -> list[int]:
    """Every group is there, most examples are of few groups."""
    generator = np.random.default_rng(seed)
    more = (num_groups * generator.random(num_examples - num_groups) ** 4).astype(int)
    return generator.permutation(np.concatenate([np.arange(num_groups), more])).tolist()


def assert_is_sound(sampler: BatchSampler, batch: GlobalBatch) -> None:
    """What holds for every batch of every kind."""
    size = sampler.config.batch_size
    corpus = sampler.corpora[batch.dataset]
    own_groups = corpus.passage_groups(batch.examples)
    assert len(np.unique(batch.examples)) == len(np.unique(own_groups)) == size
    questions, passages = batch.question_languages, batch.passage_languages
    kind = KINDS[batch.kind]
    # Rows whose questions are equal share a group (test_answers.py has the oracle), the others have their own.
    asks = kind.query_text == "question"
    joined = join_answers(corpus, batch.examples, questions, own_groups)[0] if asks else own_groups
    assert np.array_equal(batch.passage_groups, joined)
    trained = {corpus.languages.index(code) for code in sampler.languages if code in corpus.languages}
    assert set(questions.tolist()) | set(passages.tolist()) <= trained
    assert kind.match != "different" or np.all(questions != passages)
    assert kind.match != "same" or np.array_equal(questions, passages)
    for side, code in ((questions, kind.question), (passages, kind.passage)):
        assert code is None or {corpus.languages[index] for index in side.tolist()} == {code}
    if kind.one_language:
        assert set(questions.tolist()) == {batch.language}
    else:
        assert batch.language is None
    # Raises where a text does not exist.
    texts = sampler.texts(batch)
    assert len(texts.questions) == len(texts.passages) == size
    assert texts.query_text == kind.query_text


@pytest.mark.parametrize("kind", VALUES)
@settings(PATIENT, max_examples=15)
@given(corpus_seed=st.integers(0, 10_000), seed=st.integers(0, 2**40), batch_size=st.integers(1, 25))
def test_batches_of_ragged_corpora_are_sound(kind: str, corpus_seed: int, seed: int, batch_size: int) -> None:
    corpora = [ragged_corpus(400, LANGUAGES, seed=corpus_seed), ragged_corpus(300, ("de", "en"), seed=corpus_seed + 1)]
    sampler = sampler_of(
        *corpora, kind=kind, batch_size=batch_size, exclude_languages=["el", "vi"], seed=seed, total_steps=30
    )
    for step in range(30):
        assert_is_sound(sampler, sampler.batch(step))


@PATIENT
@given(st.integers(1, 40), st.integers(0, 300), st.integers(0, 10_000), st.data())
def test_no_passage_group_stands_twice_however_unequal_the_groups(
    num_groups: int, more: int, seed: int, data: st.DataObject
) -> None:
    groups = skewed_groups(num_groups, num_groups + more, seed)
    batch_size = data.draw(st.integers(1, num_groups))
    sampler = sampler_of(full_corpus(len(groups), ("de", "en"), groups=groups), batch_size=batch_size, total_steps=12)
    for step in range(12):
        assert_is_sound(sampler, sampler.batch(step))


def test_a_batch_of_all_groups_is_found_though_one_group_has_nearly_all_examples() -> None:
    groups = [0] * 20_000 + list(range(1, 50))
    sampler = sampler_of(full_corpus(len(groups), ("de", "en"), groups=groups), batch_size=50, total_steps=5)
    for step in range(5):
        batch = sampler.batch(step)
        assert sorted(batch.passage_groups.tolist()) == list(range(50))
        assert batch.displaced > 10_000


@PATIENT
@given(st.integers(2, 40), st.integers(0, 200), st.integers(1, 12), st.integers(0, 10_000))
def test_each_batch_is_the_first_examples_of_its_reading_order_whose_group_is_new(
    num_groups: int, more: int, batch_size: int, seed: int
) -> None:
    batch_size = min(batch_size, num_groups)
    groups = skewed_groups(num_groups, num_groups + more, seed)
    corpus = full_corpus(len(groups), ("de", "en"), groups=groups)
    sampler = sampler_of(corpus, kind="x-y", batch_size=batch_size, seed=seed, total_steps=40)
    (cell,) = sampler.cells
    windows = cell.windows
    for step in (0, 1, 7, 39):
        epoch, window = divmod(step, windows.count)
        order = KeyedPermutation(len(groups), subkey(cell.key, epoch))(np.arange(len(groups))).tolist()
        cut = [order[w * windows.width : (w + 1) * windows.width] for w in range(windows.count)]
        tail = order[windows.count * windows.width :]
        reading = [*cut[window], *tail, *itertools.chain(*cut[window + 1 :], *cut[:window])]
        taken, seen, displaced = [], set(), 0
        for example in reading:
            if len(taken) == batch_size:
                break
            if groups[example] in seen:
                displaced += 1
            else:
                seen.add(groups[example])
                taken.append(example)
        batch = sampler.batch(step)
        assert batch.examples.tolist() == taken
        assert batch.displaced == displaced
        assert batch.spilled == max(0, batch_size + displaced - windows.width)


@pytest.mark.parametrize("kind", VALUES)
def test_a_batch_depends_on_its_step_alone(kind: str) -> None:
    corpora = [ragged_corpus(500, LANGUAGES, seed=1), full_corpus(200, ("de", "en"))]
    alpha = ShareSchedule(start=0.9, end=0.1)
    sampler = sampler_of(*corpora, kind=kind, alpha=alpha, batch_size=20, seed=7, total_steps=40)
    in_order = [plain(sampler.batch(step)) for step in range(40)]
    again = sampler_of(*corpora, kind=kind, alpha=alpha, batch_size=20, seed=7, total_steps=40)
    assert again.identity == sampler.identity
    for step in np.random.default_rng(0).permutation(40).tolist():
        assert plain(again.batch(step)) == in_order[step]
        assert plain(sampler.batch(step)) == in_order[step]


def _batches_in_another_process(folder: str, queue: multiprocessing.Queue) -> None:
    queue.put([plain(pinned_sampler(folder).batch(step)) for step in range(20)])


def pinned_sampler(folder: str) -> BatchSampler:
    masks = [0b111, 0b011, 0b101, 0b110] * 100
    corpus = FakeCorpus(
        Path(folder),
        languages=("de", "en", "th"),
        question_mask=masks,
        passage_mask=masks[::-1],
        groups=[row // 2 for row in range(400)],
    )
    return sampler_of(corpus, batch_size=8, seed=3, total_steps=20)


def test_another_process_with_a_cache_of_its_own_draws_the_same_batches() -> None:
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue = context.Queue()
    process = context.Process(target=_batches_in_another_process, args=(str(fresh_folder()), queue))
    process.start()
    theirs = queue.get(timeout=120)
    process.join()
    sampler = pinned_sampler(str(fresh_folder()))
    assert theirs == [plain(sampler.batch(step)) for step in range(20)]


def test_the_batches_stay_what_they_were_in_the_first_release() -> None:
    sampler = pinned_sampler(str(fresh_folder()))
    first, last = sampler.batch(0), sampler.batch(19)
    assert (first.kind, first.language) == ("x-y", None)
    assert first.examples.tolist() == [140, 285, 370, 35, 199, 269, 208, 235]
    assert first.question_languages.tolist() == [0, 0, 0, 2, 1, 1, 0, 1]
    assert first.passage_languages.tolist() == [2, 2, 1, 1, 0, 2, 1, 2]
    assert (last.kind, last.language) == ("x-x-mono", 2)
    assert last.examples.tolist() == [20, 188, 156, 267, 360, 328, 19, 95]
    assert sampler.identity == "554bc36a33a7bf5a"


def test_a_mixture_has_an_identity_of_its_own_and_its_order_does_not_count() -> None:
    corpus = full_corpus(500, ("de", "en"))
    mixtures = [{"x-x": 0.5, "x-en": 0.5}, {"x-en": 0.5, "x-x": 0.5}, {"x-x": 0.5, "en-x": 0.5}]
    first, turned, other = (sampler_of(corpus, mixture=mixture, batch_size=20) for mixture in mixtures)
    assert first.identity == turned.identity != other.identity
    assert [plain(first.batch(step)) for step in range(9)] == [plain(turned.batch(step)) for step in range(9)]


@pytest.mark.parametrize("change", ["seed", "corpus", "batch_size"])
def test_what_a_batch_may_depend_on_changes_it(change: str) -> None:
    corpus = full_corpus(500, ("de", "en"))
    changed = full_corpus(501, ("de", "en")) if change == "corpus" else corpus
    sampler = sampler_of(corpus, kind="x-y", batch_size=20, seed=1)
    other = sampler_of(
        changed, kind="x-y", batch_size=21 if change == "batch_size" else 20, seed=1 + (change == "seed")
    )
    assert other.identity != sampler.identity
    assert not np.array_equal(other.batch(0).examples, sampler.batch(0).examples)


def test_two_data_sets_of_equal_content_are_shuffled_independently() -> None:
    corpora = [full_corpus(1000, ("de", "en")), full_corpus(1000, ("de", "en"))]
    sampler = sampler_of(*corpora, kind="x-y", batch_size=100)
    first = {dataset: sampler.batch(sampler.plan.cells.tolist().index(dataset)).examples for dataset in (0, 1)}
    assert len(set(first[0].tolist()) & set(first[1].tolist())) < 40


def test_languages_of_the_same_data_set_are_shuffled_independently() -> None:
    sampler = sampler_of(full_corpus(1000, ("de", "en")), kind="x-x-mono", batch_size=100)
    first = {cell: sampler.batch(sampler.plan.cells.tolist().index(cell)).examples for cell in (0, 1)}
    assert len(set(first[0].tolist()) & set(first[1].tolist())) < 40


@PATIENT
@given(st.integers(5, 100), st.integers(0, 400), st.integers(0, 1000))
def test_an_epoch_without_shared_passages_uses_no_example_twice_and_leaves_less_than_a_batch(
    batch_size: int, more: int, seed: int
) -> None:
    size = batch_size + more
    sampler = sampler_of(
        full_corpus(size, ("de", "en")), kind="x-y", batch_size=batch_size, seed=seed, total_steps=1000
    )
    (cell,) = sampler.cells
    batches = [sampler.batch(step) for step in range(cell.windows.count)]
    used = np.concatenate([batch.examples for batch in batches])
    assert len(np.unique(used)) == len(used) > size - batch_size
    assert {(batch.displaced, batch.spilled) for batch in batches} == {(0, 0)}


def test_an_epoch_uses_an_example_twice_only_where_a_batch_spilled() -> None:
    groups = skewed_groups(2000, 6000, 0)
    sampler = sampler_of(full_corpus(6000, ("de", "en"), groups=groups), kind="x-y", batch_size=50, total_steps=2000)
    (cell,) = sampler.cells
    spilled = 0
    for epoch in range(5):
        batches = [sampler.batch(epoch * cell.windows.count + window) for window in range(cell.windows.count)]
        within = np.concatenate([batch.examples for batch in batches if not batch.spilled])
        assert len(np.unique(within)) == len(within)
        spilled += sum(batch.spilled > 0 for batch in batches)
    assert spilled < 0.03 * 5 * cell.windows.count


def test_every_example_has_its_turn_equally_often_over_the_epochs() -> None:
    sampler = sampler_of(full_corpus(90, ("de", "en")), kind="x-y", batch_size=20, total_steps=4 * 500)
    used = np.bincount(np.concatenate([sampler.batch(step).examples for step in range(4 * 500)]), minlength=90)
    # Each epoch takes 80 of 90 examples without replacement: the variance is (1 - 80 / 90) of independent draws'.
    statistic = ((used - used.mean()) ** 2 / used.mean()).sum() / (1 - 80 / 90)
    assert used.sum() == 4 * 500 * 20
    assert abs(statistic - 89) < 4 * np.sqrt(2 * 89)


def test_examples_of_a_shared_passage_have_their_turn_too() -> None:
    groups = [row // 3 for row in range(300)]
    sampler = sampler_of(full_corpus(300, ("de", "en"), groups=groups), kind="x-y", batch_size=40, total_steps=1500)
    used = np.bincount(np.concatenate([sampler.batch(step).examples for step in range(1500)]), minlength=300)
    # 200 turns each are expected, with a standard deviation of less than 14.
    assert used.min() > 200 - 5 * 14
    assert used.max() < 200 + 5 * 14


def test_pairs_of_languages_are_uniform_where_every_example_has_all_languages() -> None:
    sampler = sampler_of(full_corpus(1000, LANGUAGES), kind="x-y", batch_size=100, total_steps=300)
    drawn = Counter(
        pair
        for batch in map(sampler.batch, range(300))
        for pair in zip(batch.question_languages.tolist(), batch.passage_languages.tolist(), strict=True)
    )
    assert len(drawn) == 20
    assert chance_of_counts(list(drawn.values())) > 1e-4


def test_languages_of_the_same_example_differ_from_epoch_to_epoch() -> None:
    sampler = sampler_of(full_corpus(100, LANGUAGES), kind="x-x", batch_size=100, total_steps=600)
    drawn = Counter(int(batch.question_languages[batch.examples == 17][0]) for batch in map(sampler.batch, range(600)))
    assert len(drawn) == 5
    assert chance_of_counts(list(drawn.values())) > 1e-4


@pytest.mark.parametrize("kind", VALUES)
def test_languages_left_out_are_never_drawn_and_all_others_are(kind: str) -> None:
    sampler = sampler_of(full_corpus(200, LANGUAGES), kind=kind, exclude_languages=["el", "vi"], batch_size=20)
    batches = [sampler.batch(step) for step in range(50)]
    drawn = {LANGUAGES[k] for b in batches for k in (*b.question_languages.tolist(), *b.passage_languages.tolist())}
    alone = KINDS[kind].fixed_languages if kind in KINDS and KINDS[kind].match == "same" else ()
    assert drawn == set(alone or ("ar", "de", "en"))


@pytest.mark.parametrize(("kind", "side"), [("x-en", "question_languages"), ("en-x", "passage_languages")])
def test_the_side_that_is_not_english_is_in_every_other_language_alike(kind: str, side: str) -> None:
    sampler = sampler_of(full_corpus(400, LANGUAGES), kind=kind, batch_size=40, total_steps=300)
    drawn = Counter(LANGUAGES[k] for batch in map(sampler.batch, range(300)) for k in getattr(batch, side).tolist())
    assert set(drawn) == set(LANGUAGES) - {"en"}
    assert chance_of_counts(list(drawn.values())) > 1e-4


def test_training_on_two_languages_draws_both_directions_and_no_other() -> None:
    sampler = sampler_of(full_corpus(200, LANGUAGES), kind="x-y", languages=["vi", "de"], batch_size=20)
    batches = [sampler.batch(step) for step in range(50)]
    pairs = {
        pair for b in batches for pair in zip(b.question_languages.tolist(), b.passage_languages.tolist(), strict=True)
    }
    assert pairs == {(1, 4), (4, 1)}


def test_rows_cut_a_batch_s_texts_and_together_give_all_of_them() -> None:
    corpus = full_corpus(100, LANGUAGES)
    corpus.has_hard_negatives = True
    sampler = sampler_of(corpus, kind="x-y", batch_size=12)
    batch = sampler.batch(3)
    whole = sampler.texts(batch)
    parts = [sampler.texts(batch, slice(start, start + 4)) for start in (0, 4, 8)]
    for field in ("questions", "passages", "hard_negatives", "hard_negative_groups"):
        assert list(itertools.chain(*(getattr(part, field) for part in parts))) == getattr(whole, field)
    for row, example in enumerate(batch.examples.tolist()):
        question, passage = (LANGUAGES[k[row]] for k in (batch.question_languages, batch.passage_languages))
        assert whole.questions[row] == f"{example} {question} q"
        assert whole.passages[row] == f"{example} {passage} p"
        assert whole.hard_negatives[row] == [f"{example} {passage} n"]


def test_the_queries_of_a_batch_of_translations_are_the_same_passages_in_another_language() -> None:
    sampler = sampler_of(full_corpus(100, LANGUAGES), kind="bitext", batch_size=12)
    pairs: Counter[tuple[int, int]] = Counter()
    for batch in map(sampler.batch, range(50)):
        queries, passages = batch.question_languages.tolist(), batch.passage_languages.tolist()
        texts = sampler.texts(batch)
        examples = batch.examples.tolist()
        assert texts.questions == [f"{e} {LANGUAGES[k]} p" for e, k in zip(examples, queries, strict=True)]
        assert texts.passages == [f"{e} {LANGUAGES[k]} p" for e, k in zip(examples, passages, strict=True)]
        pairs.update(zip(queries, passages, strict=True))
    assert len(pairs) == len(LANGUAGES) * (len(LANGUAGES) - 1)
    assert chance_of_counts(list(pairs.values())) > 1e-4


def test_a_corpus_without_hard_negatives_gives_empty_lists() -> None:
    sampler = sampler_of(full_corpus(100, LANGUAGES), batch_size=5)
    texts = sampler.texts(sampler.batch(0))
    assert texts.hard_negatives == texts.hard_negative_groups == [[]] * 5


@pytest.mark.parametrize("step", [-1, 50])
def test_steps_outside_the_run_are_refused(step: int) -> None:
    with pytest.raises(IndexError, match=f"step {step} of a run of 50 steps"):
        sampler_of(full_corpus(100, LANGUAGES), batch_size=5).batch(step)


def test_an_unknown_language_is_refused_before_any_scan() -> None:
    corpus = full_corpus(100, LANGUAGES)
    with pytest.raises(UserError, match=r"sampling\.languages names xx"):
        sampler_of(corpus, languages=["xx"], batch_size=5)
    assert not list(corpus.directory.iterdir())


def test_a_batch_reads_no_more_rows_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = full_corpus(200_000, ("de", "en"))
    sampler = sampler_of(corpus, batch_size=50)
    read: list[int] = []
    for method in ("passage_groups", "question_mask", "passage_mask"):
        original = getattr(FakeCorpus, method)

        def counting(self: FakeCorpus, indices: Sequence[int], original: object = original) -> object:
            read.append(len(indices))
            return original(self, indices)

        monkeypatch.setattr(FakeCorpus, method, counting)
    for step in range(50):
        sampler.batch(step)
    assert max(read) == 50
    assert len(read) <= 3 * 50


def test_the_default_configuration_is_hybrid_at_one_half() -> None:
    config = SamplingConfig()
    assert (config.kind, config.alpha) == ("hybrid", 0.5)
