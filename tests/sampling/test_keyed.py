"""The keyed stream: exactly as described, a bijection, and not to be told from chance."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybatch.sampling.keyed import KeyedPermutation, bounded, derive_key, draws, mix, subkey
from tests.sampling.chi_square import chance_of_counts
from tests.sampling.patience import PATIENT

WORD = (1 << 64) - 1
keys = st.integers(0, WORD)


def plain_mix(x: int) -> int:
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & WORD
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & WORD
    return x ^ x >> 31


def plain_draw(key: int, counter: int) -> int:
    return plain_mix((plain_mix((key + counter * 0x9E3779B97F4A7C15) & WORD) + (key ^ 0xD1B54A32D192ED03)) & WORD)


def plain_permutation(size: int, key: int) -> list[int]:
    """The documented network, element by element, in Python's integers."""
    a = math.isqrt(size - 1) + 1
    b = -(-size // a)
    round_keys = [plain_draw(key, r) for r in range(24 if size < 1024 else 10)]

    def encipher(x: int) -> int:
        left, right = divmod(x, b)
        for r, round_key in enumerate(round_keys):
            number = plain_mix((left if r % 2 else right) + round_key & WORD)
            if r % 2:
                right = (right + ((number >> 20) * b >> 44)) % b
            else:
                left = (left + ((number >> 20) * a >> 44)) % a
        return left * b + right

    result = []
    for x in range(size):
        x = encipher(x)
        while x >= size:
            x = encipher(x)
        result.append(x)
    return result


@PATIENT
@given(keys, st.lists(st.integers(0, WORD), min_size=1, max_size=20))
def test_draws_are_those_of_the_description(key: int, counters: list[int]) -> None:
    assert draws(key, np.array(counters, dtype=np.uint64)).tolist() == [plain_draw(key, c) for c in counters]
    assert subkey(key, counters[0]) == plain_draw(key, counters[0])


@PATIENT
@given(st.integers(1, 1500), keys)
def test_permutations_are_those_of_the_description(size: int, key: int) -> None:
    assert KeyedPermutation(size, key)(np.arange(size)).tolist() == plain_permutation(size, key)


def test_the_stream_stays_what_it_was_in_the_first_release() -> None:
    key = derive_key("cell", 1, "fingerprint", 0, "x-y", "")
    assert key == 6995431987501484644
    assert draws(key, np.arange(4)).tolist() == [
        1655285449916161965,
        6589424025904063421,
        13184911430758118347,
        11889131137763307431,
    ]
    assert KeyedPermutation(10, key)(np.arange(10)).tolist() == [1, 6, 2, 0, 3, 8, 9, 5, 4, 7]
    assert KeyedPermutation(39_780_811, key)(np.array([0, 1, 39_780_810])).tolist() == [3698631, 32560436, 361544]


def test_every_size_up_to_2000_gives_a_permutation() -> None:
    for size in range(1, 2001):
        elements = KeyedPermutation(size, derive_key("bijection", size))(np.arange(size))
        assert np.array_equal(np.sort(elements), np.arange(size)), size


@PATIENT
@given(st.integers(1, 2000), keys)
def test_every_key_gives_a_permutation(size: int, key: int) -> None:
    elements = KeyedPermutation(size, key)(np.arange(size))
    assert np.array_equal(np.sort(elements), np.arange(size))


@PATIENT
@given(st.integers(2000, 1 << 40), keys, st.integers(0, 1 << 40))
def test_elements_of_large_permutations_are_distinct_and_in_range(size: int, key: int, start: int) -> None:
    places = (start + np.arange(500)) % size
    elements = KeyedPermutation(size, key)(places)
    assert len(np.unique(elements)) == 500
    assert elements.min() >= 0
    assert elements.max() < size


@PATIENT
@given(st.integers(1, 5000), keys, st.data())
def test_an_element_does_not_depend_on_which_others_are_asked_for(size: int, key: int, data: st.DataObject) -> None:
    permutation = KeyedPermutation(size, key)
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=20)), dtype=np.int64)
    assert np.array_equal(permutation(places), permutation(np.arange(size))[places])


@pytest.mark.parametrize("size", [0, -1, (1 << 40) + 1])
def test_sizes_out_of_range_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        KeyedPermutation(size, 1)


def test_mix_is_a_bijection_on_the_numbers_tried() -> None:
    numbers = np.arange(1 << 16, dtype=np.uint64)
    assert len(np.unique(mix(numbers))) == len(numbers)
    assert len(np.unique(mix(numbers << np.uint64(48)))) == len(numbers)


@PATIENT
@given(st.integers(1, 1 << 20), st.integers(0, WORD))
def test_bounded_numbers_are_below_their_bound(bound: int, number: int) -> None:
    numbers = np.array([0, number, WORD], dtype=np.uint64)
    low, middle, high = bounded(numbers, bound).tolist()
    assert low == 0
    assert 0 <= middle < bound
    assert high == bound - 1


@pytest.mark.parametrize("shift", range(0, 64, 8))
def test_every_byte_of_the_draws_is_uniform(shift: int) -> None:
    numbers = draws(derive_key("bytes"), np.arange(200_000))
    counts = np.bincount(((numbers >> np.uint64(shift)) & np.uint64(255)).astype(int), minlength=256)
    assert chance_of_counts(counts) > 1e-4


def test_draws_under_neighbouring_keys_and_counters_are_independent() -> None:
    def top_bits(key: int, first: int) -> np.ndarray:
        return (draws(key, first + np.arange(100_000)) >> np.uint64(60)).astype(int)

    for other in (top_bits(5, 1), top_bits(6, 0), top_bits(5 ^ 1 << 63, 0), top_bits(5 + 0x9E3779B97F4A7C15, 0)):
        counts = np.bincount(top_bits(5, 0) * 16 + other, minlength=256)
        assert chance_of_counts(counts) > 1e-4


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_orders_of_few_elements_are_equally_likely(size: int) -> None:
    key = derive_key("orders", size)
    orders = dict.fromkeys(itertools.permutations(range(size)), 0)
    for epoch in range(20 * len(orders)):
        orders[tuple(KeyedPermutation(size, subkey(key, epoch))(np.arange(size)).tolist())] += 1
    assert chance_of_counts(list(orders.values())) > 1e-4


@pytest.mark.parametrize("size", [13, 100, 1025])
def test_each_place_holds_each_element_equally_often_over_the_epochs(size: int) -> None:
    key = derive_key("places", size)
    epochs = np.array([KeyedPermutation(size, subkey(key, epoch))(np.arange(size)) for epoch in range(1500)])
    for place in (0, size // 2, size - 1):
        bins = epochs[:, place] * min(size, 20) // size
        expected = np.bincount(np.arange(size) * min(size, 20) // size)
        assert chance_of_counts(np.bincount(bins, minlength=len(expected)), expected) > 1e-4


def test_neighbouring_places_and_neighbouring_epochs_are_independent() -> None:
    size, bins = 100_000, 16
    key = derive_key("independence")
    first, second = (KeyedPermutation(size, subkey(key, epoch))(np.arange(size)) * bins // size for epoch in (0, 1))
    for left, right in ((first[:-1], first[1:]), (first, second), (first, np.arange(size) * bins // size)):
        assert chance_of_counts(np.bincount(left * bins + right, minlength=bins * bins)) > 1e-4


def test_keys_of_different_parts_differ() -> None:
    parts = [("a",), ("a", ""), ("", "a"), ("a", 1), ("a", "1"), ("a", 1, 2), ("a", 12), ("ä",)]
    assert len({derive_key(*part) for part in parts}) == len(parts)
