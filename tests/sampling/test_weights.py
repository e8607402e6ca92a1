"""Weights of corpora, languages and pairs: what is drawn has their proportions, and nothing else changes."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybatch.errors import UserError
from hybatch.sampling import BatchSampler, NoCellError, SamplingConfig, summarise
from hybatch.sampling.keyed import bounded_widely, derive_key, draws
from hybatch.sampling.languages import draw_weighted_language, draw_weighted_pair
from hybatch.sampling.weights import LanguageWeights, language_weights, whole_weights
from tests.sampling.chi_square import chance_of_counts
from tests.sampling.corpora import FakeCorpus, fresh_folder, full_corpus, ragged_corpus, sampler_of
from tests.sampling.patience import PATIENT

NUMBERS = draws(derive_key("weights"), np.arange(40_000))
LANGUAGES = ("de", "en", "zh")


def _weighted(*corpora: FakeCorpus, weights: list[float], total_steps: int = 50, **options: Any) -> BatchSampler:
    config = SamplingConfig(**options)
    return BatchSampler(corpora, config, seed=0, total_steps=total_steps, progress=False, weights=weights)


@given(
    st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=20),
    st.integers(1, 1 << 32),
)
def test_a_wide_bound_is_the_high_part_of_the_product(numbers: list[int], bound: int) -> None:
    found = bounded_widely(np.array(numbers, dtype=np.uint64), np.full(len(numbers), bound, dtype=np.uint64))
    assert found.tolist() == [number * bound >> 64 for number in numbers]


@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1e12)), min_size=1, max_size=64 * 63).filter(any))
def test_whole_weights_keep_the_proportions_and_what_is_not_zero(weights: list[float]) -> None:
    whole = whole_weights(np.array(weights))
    assert whole.sum() < 1 << 32
    assert ((whole > 0) == (np.array(weights) > 0)).all()
    total = sum(map(Fraction, weights))
    for given_weight, number in zip(weights, whole.tolist(), strict=True):
        assert abs(Fraction(number, 1 << 31) - Fraction(given_weight) / total) < Fraction(2, 1 << 31)


@PATIENT
@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(1, 15), st.integers(1, 15)), min_size=1, max_size=20),
)
def test_a_drawn_pair_is_the_one_whose_stretch_of_the_weights_the_number_falls_into(
    seed: int, masks: list[tuple[int, int]]
) -> None:
    weights_LL = np.random.default_rng(seed).integers(0, 5, size=(4, 4))
    allowed = [
        [(x, y) for x in range(4) for y in range(4) if q >> x & 1 and p >> y & 1 for _ in range(weights_LL[x, y])]
        for q, p in masks
    ]
    kept = [place for place, pairs in enumerate(allowed) if pairs]
    numbers = NUMBERS[: len(kept)]
    questions, passages = (np.array([masks[place][side] for place in kept], dtype=np.uint64) for side in (0, 1))
    found = draw_weighted_pair(numbers, questions, passages, weights_LL)
    expected = [allowed[place][int(n) * len(allowed[place]) >> 64] for place, n in zip(kept, numbers, strict=True)]
    assert list(zip(*(part.tolist() for part in found), strict=True)) == expected


def test_a_language_is_drawn_in_proportion_to_its_weight_among_those_that_are_there() -> None:
    weights = whole_weights(np.array([1.0, 2.0, 4.0, 0.0]))
    for mask, shares in ((0b0111, [1, 2, 4]), (0b1101, [1, 4]), (0b0010, [2])):
        drawn = draw_weighted_language(NUMBERS, np.full(len(NUMBERS), mask, dtype=np.uint64), weights)
        counts = Counter(drawn.tolist())
        assert set(counts) == {k for k in range(3) if mask >> k & 1}
        expected = np.array(shares) / sum(shares)
        assert chance_of_counts([counts[k] for k in sorted(counts)], expected.tolist()) > 1e-4 or len(counts) == 1


def test_of_several_patterns_that_match_the_weights_are_multiplied_in_whatever_order_they_stand() -> None:
    for pairs in ({"en-*": 2.0, "*-zh": 0.25}, {"*-zh": 0.25, "en-*": 2.0}):
        found = language_weights(SamplingConfig(kind="x-y", pairs=pairs), ["x-y"], LANGUAGES).pairs
        assert found == {("de", "en"): 1, ("de", "zh"): 0.25, ("en", "de"): 2, ("en", "zh"): 0.5} | {
            ("zh", "de"): 1,
            ("zh", "en"): 1,
        }


def test_a_pattern_of_pairs_is_cut_where_both_parts_fit() -> None:
    codes = ("en", "en-GB", "zh-Hans")
    found = language_weights(SamplingConfig(kind="x-y", pairs={"en-*": 2, "en-GB-zh-Hans": 3}), ["x-y"], codes).pairs
    assert found is not None
    # "en-*" has one hyphen: the question's language is "en" alone.
    assert {pair: weight for pair, weight in found.items() if weight != 1} == {
        ("en", "en-GB"): 2,
        ("en", "zh-Hans"): 2,
        ("en-GB", "zh-Hans"): 3,
    }


def test_pairs_of_a_run_have_the_shares_of_their_weights() -> None:
    weights = {("de", "en"): 3, ("de", "zh"): 1, ("en", "de"): 1, ("en", "zh"): 0, ("zh", "de"): 1, ("zh", "en"): 2}
    pairs = {f"{x}-{y}": weight for (x, y), weight in weights.items()}
    sampler = sampler_of(full_corpus(400, LANGUAGES), kind="x-y", batch_size=100, pairs=pairs)
    counts = summarise(sampler, map(sampler.batch, range(50))).pair_counts
    drawn = [pair for pair in permutations(LANGUAGES, 2) if weights[pair]]
    assert set(counts) == set(drawn)
    assert chance_of_counts([counts[pair] for pair in drawn], [weights[pair] / 8 for pair in drawn]) > 1e-4


@pytest.mark.parametrize("kind", ["x-y", "bitext", "x-en"])
def test_an_example_that_has_pairs_of_weight_zero_only_is_in_no_batch(kind: str) -> None:
    corpus = ragged_corpus(300, LANGUAGES, seed=3)
    sampler = sampler_of(corpus, kind=kind, batch_size=20, pairs={"de-en": 0, "zh-de": 0}, total_steps=40)
    used: set[int] = set()
    for batch in map(sampler.batch, range(40)):
        languages = zip(batch.question_languages.tolist(), batch.passage_languages.tolist(), strict=True)
        assert not {(0, 1), (2, 0)} & set(languages)
        used |= set(batch.examples.tolist())
    asked = corpus.passage_mask if kind == "bitext" else corpus.question_mask
    both = zip(asked(slice(None)).tolist(), corpus.passage_mask(slice(None)).tolist(), strict=True)
    allowed = [(1, 0), (0, 2), (1, 2), (2, 1)] if kind != "x-en" else [(2, 1)]
    usable = {i for i, (q, p) in enumerate(both) if any(q >> x & 1 and p >> y & 1 for x, y in allowed)}
    assert used <= usable
    (cell,) = sampler.cells
    assert len(cell.usable) == len(usable)


def test_batches_in_one_language_are_drawn_by_weight_and_size() -> None:
    masks = [0b111 if row < 100 else 0b011 for row in range(300)]
    corpus = FakeCorpus(fresh_folder(), languages=LANGUAGES, question_mask=masks, passage_mask=masks)
    options: dict[str, Any] = {"kind": "x-x-mono", "batch_size": 10, "language_exponent": 1}
    sampler = sampler_of(corpus, total_steps=4000, language_weights={"zh": 6, "de": 0}, **options)
    assert [corpus.languages[cell.language or 0] for cell in sampler.cells] == ["en", "zh"]
    assert sampler.plan.expected_shares == pytest.approx([300 / 900, 600 / 900])
    counts = np.bincount(sampler.plan.cells).tolist()
    assert chance_of_counts(counts, [1 / 3, 2 / 3]) > 1e-4
    assert [str(cell) for cell in sampler.excluded] == [
        "fake, x-x-mono de: sampling.language_weights gives it the weight 0"
    ]


def test_an_example_s_own_language_is_drawn_by_weight() -> None:
    sampler = sampler_of(full_corpus(200, LANGUAGES), kind="x-x", batch_size=50, language_weights={"e*": 3, "zh": 0})
    counts: Counter[int] = Counter()
    for batch in map(sampler.batch, range(40)):
        counts.update(batch.question_languages.tolist())
    assert set(counts) == {0, 1}
    assert chance_of_counts([counts[0], counts[1]], [0.25, 0.75]) > 1e-4


def test_a_corpus_is_drawn_by_weight_and_size() -> None:
    corpora = full_corpus(100, LANGUAGES, name="a"), full_corpus(300, LANGUAGES, name="b"), full_corpus(90, LANGUAGES)
    sampler = _weighted(*corpora, weights=[6, 1, 0], kind="x-y", batch_size=10, total_steps=3000)
    assert [cell.dataset for cell in sampler.cells] == [0, 1]
    assert sampler.plan.expected_shares == pytest.approx([2 / 3, 1 / 3])
    assert chance_of_counts(np.bincount(sampler.plan.cells).tolist(), [2 / 3, 1 / 3]) > 1e-4
    assert "the weight of its corpus is 0" in str(sampler.excluded[0])


def test_expected_shares_are_those_of_many_plans() -> None:
    corpora = ragged_corpus(200, LANGUAGES, name="a"), ragged_corpus(300, LANGUAGES, seed=1, name="b")
    options: dict[str, Any] = {"kind": "hybrid", "alpha": 0.25, "batch_size": 10, "language_weights": {"en": 2}}
    sampler = _weighted(*corpora, weights=[1, 3], total_steps=6000, **options)
    counts = np.bincount(sampler.plan.cells, minlength=len(sampler.cells)).tolist()
    assert sum(sampler.plan.expected_shares) == pytest.approx(1)
    assert chance_of_counts(counts, sampler.plan.expected_shares) > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "x-y"},
        {"kind": "x-y", "pairs": {"en-*": 4, "*-de": 0.5, "de-zh": 0}},
        {"kind": "bitext", "pairs": {"en-*": 4}},
        {"kind": "x-x", "language_weights": {"zh": 5}},
        {"kind": "x-x"},
        {"kind": "x-en", "pairs": {"zh-*": 3}},
    ],
)
def test_expected_pairs_are_those_of_many_draws(options: dict[str, Any]) -> None:
    sampler = sampler_of(ragged_corpus(200, LANGUAGES, seed=5), batch_size=20, total_steps=300, **options)
    summary = summarise(sampler, map(sampler.batch, range(300)))
    assert sum(summary.expected_pair_shares.values()) == pytest.approx(1)
    assert summary.pair_counts.keys() <= summary.expected_pair_counts.keys()
    pairs = list(summary.expected_pair_counts)
    drawn = [summary.pair_counts.get(pair, 0) for pair in pairs]
    if len(pairs) > 1:
        assert chance_of_counts(drawn, [summary.expected_pair_shares[pair] for pair in pairs]) > 1e-4


def test_equal_weights_of_the_corpora_change_no_batch_and_other_weights_are_another_run() -> None:
    corpora = full_corpus(100, LANGUAGES), ragged_corpus(150, LANGUAGES)
    plain = sampler_of(*corpora, batch_size=10)
    equal = _weighted(*corpora, weights=[1.0, 1.0], batch_size=10)
    other = _weighted(*corpora, weights=[1.0, 2.0], batch_size=10)
    assert equal.identity == plain.identity != other.identity
    assert equal.plan.cells.tolist() == plain.plan.cells.tolist()
    assert sampler_of(*corpora, batch_size=10, pairs={"*-*": 1.0}).identity != plain.identity


def test_weighted_batches_of_an_epoch_still_share_no_example() -> None:
    sampler = sampler_of(full_corpus(100, LANGUAGES), kind="x-y", batch_size=10, pairs={"en-*": 5}, total_steps=20)
    for epoch in (0, 10):
        examples = np.concatenate([sampler.batch(step).examples for step in range(epoch, epoch + 10)])
        assert sorted(examples.tolist()) == list(range(100))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "x-y", "pairs": {"fr-*": 2}}, r"sampling\.pairs: 'fr-\*' matches nothing .* QUESTION-PASSAGE, of de"),
        ({"kind": "x-y", "pairs": {"en": 2}}, r"sampling\.pairs: 'en' matches nothing"),
        ({"kind": "x-y", "pairs": {"en-en": 2}}, r"sampling\.pairs: 'en-en' matches nothing"),
        ({"kind": "x-y", "pairs": {"*-*": 0}}, r"sampling\.pairs: every weight comes to 0"),
        ({"kind": "x-x-mono", "pairs": {"en-*": 2}}, r"sampling\.pairs weighs examples in two languages"),
        ({"kind": "x-y", "language_weights": {"en": 2}}, r"sampling\.language_weights weighs examples in one language"),
        ({"kind": "x-x", "language_weights": {"xx": 2}}, r"'xx' matches nothing .* languages: de, en, zh"),
        ({"kind": "x-x", "language_weights": {"*": 0}}, r"sampling\.language_weights: every weight comes to 0"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sampler_of(full_corpus(100, LANGUAGES), batch_size=10, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": {"en-*": -1}}, r"sampling\.pairs\.en-\* is -1"),
        ({"pairs": {"en-*": float("nan")}}, r"sampling\.pairs\.en-\* is nan"),
        ({"pairs": {}}, r"sampling\.pairs is empty"),
        ({"language_weights": {}}, r"sampling\.language_weights is empty"),
    ],
)
def test_a_weight_that_is_none_is_refused_with_its_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SamplingConfig(**options)


def test_corpora_of_weight_zero_leave_nothing_to_draw() -> None:
    corpora = full_corpus(100, LANGUAGES), full_corpus(100, ("en",), name="english")
    with pytest.raises(UserError, match="every weight is 0"):
        _weighted(*corpora, weights=[0, 0], batch_size=10)
    with pytest.raises(NoCellError, match="fake, x-y: the weight of its corpus is 0"):
        _weighted(*corpora, weights=[0, 1], kind="x-y", batch_size=10)


def test_without_weights_all_are_alike() -> None:
    alike = LanguageWeights()
    assert alike.of_language("en") == 1
    assert alike.whole_languages(LANGUAGES) is alike.whole_pairs(LANGUAGES) is None
