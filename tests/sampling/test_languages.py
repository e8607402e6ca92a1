"""Languages are drawn from those that an example has, each or each pair equally often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybatch.sampling.keyed import derive_key, draws
from hybatch.sampling.languages import draw_language, draw_language_pair
from tests.sampling.chi_square import chance_of_counts
from tests.sampling.patience import PATIENT

NUMBERS = draws(derive_key("languages"), np.arange(60_000))


def pairs_of(question_mask: int, passage_mask: int, *, different: bool) -> set[tuple[int, int]]:
    """The ordered pairs of languages that two masks allow."""
    every = {(x, y) for x in range(64) for y in range(64) if question_mask >> x & 1 and passage_mask >> y & 1}
    return {(x, y) for x, y in every if x != y or not different}


def masks(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


@PATIENT
@given(st.lists(st.integers(1, (1 << 64) - 1), min_size=1, max_size=30), st.integers(0, 50_000))
def test_a_drawn_language_is_one_of_its_mask(values: list[int], first: int) -> None:
    languages = draw_language(NUMBERS[first : first + len(values)], masks(*values), 64)
    assert all(value >> language & 1 for value, language in zip(values, languages.tolist(), strict=True))


@PATIENT
@given(
    st.lists(
        st.tuples(st.integers(1, (1 << 64) - 1), st.integers(1, (1 << 64) - 1)).filter(
            lambda pair: (pair[0] | pair[1]).bit_count() > 1
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(0, 50_000),
)
def test_a_drawn_pair_is_of_two_different_languages_that_the_example_has(
    values: list[tuple[int, int]], first: int
) -> None:
    question_masks, passage_masks = masks(*(q for q, _ in values)), masks(*(p for _, p in values))
    numbers = NUMBERS[first : first + len(values)]
    questions, passages = draw_language_pair(numbers, question_masks, passage_masks, 64, different=True)
    for (q, p), x, y in zip(values, questions.tolist(), passages.tolist(), strict=True):
        assert x != y
        assert q >> x & 1
        assert p >> y & 1


@pytest.mark.parametrize("mask", [0b1, 0b1010, 0b1111111, 1 << 63 | 1])
def test_each_language_of_a_mask_is_equally_likely(mask: int) -> None:
    drawn = Counter(draw_language(NUMBERS, np.full(len(NUMBERS), mask, dtype=np.uint64), 64).tolist())
    assert set(drawn) == {language for language in range(64) if mask >> language & 1}
    assert len(drawn) == 1 or chance_of_counts(list(drawn.values())) > 1e-4


@pytest.mark.parametrize("different", [True, False])
@pytest.mark.parametrize(
    ("question_mask", "passage_mask"),
    [(0b11, 0b11), (0b1, 0b111), (0b111, 0b1), (0b1100, 0b0011), (0b1011, 0b0110), (0x7FF, 0x7FF)],
)
def test_each_ordered_pair_of_an_example_is_equally_likely(
    question_mask: int, passage_mask: int, different: bool
) -> None:
    repeated = (np.full(len(NUMBERS), mask, dtype=np.uint64) for mask in (question_mask, passage_mask))
    questions, passages = draw_language_pair(NUMBERS, *repeated, 11, different=different)
    drawn = Counter(zip(questions.tolist(), passages.tolist(), strict=True))
    assert set(drawn) == pairs_of(question_mask, passage_mask, different=different)
    assert chance_of_counts(list(drawn.values())) > 1e-4
