"""Keys, their equality, and the numbering of ids, against dictionaries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.corpus.index import keys as keys_module
from hybatch.corpus.index.keys import Alignment, Keys, KeySpool, KeyTable, RepeatedKeyError, first_occurrence, keys_of

# Few values of either word, so that first words collide while second words differ.
word_pairs = st.lists(st.tuples(st.sampled_from([0, 1, 2**63, 2**64 - 1]), st.integers(0, 3)), max_size=30)


def as_keys(pairs: list[tuple[int, int]]) -> Keys:
    return np.array(pairs, dtype=np.uint64).reshape(-1, 2)


def naive_first(pairs: list[tuple[int, int]]) -> list[int]:
    return [pairs.index(pair) for pair in pairs]


@settings(deadline=None)
@given(word_pairs)
def test_first_occurrence_agrees_with_a_search_from_the_front(pairs: list[tuple[int, int]]) -> None:
    assert first_occurrence(as_keys(pairs)).tolist() == naive_first(pairs)


@settings(deadline=None)
@given(word_pairs)
def test_first_occurrence_is_the_same_when_sorted_range_by_range(pairs: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys_module, "_KEYS_AT_ONCE", 2)
        assert first_occurrence(as_keys(pairs)).tolist() == naive_first(pairs)


@settings(deadline=None)
@given(word_pairs, word_pairs)
def test_a_key_table_finds_the_first_equal_row_or_none(
    table: list[tuple[int, int]], wanted: list[tuple[int, int]]
) -> None:
    expected = [table.index(pair) if pair in table else -1 for pair in wanted]
    assert KeyTable(as_keys(table)).find(as_keys(wanted)).tolist() == expected


@settings(deadline=None)
@given(st.lists(st.lists(st.text(max_size=2), unique=True, max_size=12), max_size=4))
def test_ids_are_numbered_by_first_appearance_over_the_languages(languages: list[list[str]]) -> None:
    alignment = Alignment()
    seen: list[str] = []
    for ids in languages:
        numbers = alignment.add(keys_of(ids))
        seen += [identifier for identifier in ids if identifier not in seen]
        found = list(range(len(ids))) if numbers is None else numbers.tolist()
        assert [seen[number] for number in found] == ids
    assert alignment.keys.tolist() == keys_of(seen).tolist()


def test_parallel_files_in_one_order_need_no_numbers() -> None:
    alignment = Alignment()
    assert alignment.add(keys_of(["a", "b"])) is None
    assert alignment.add(keys_of(["a"])) is None
    assert alignment.add(keys_of(["a", "b", "c"])) is None
    assert len(alignment.keys) == 3


@pytest.mark.parametrize("before", [[], ["a"], ["x", "y"]])
def test_a_repeated_id_is_refused_with_both_its_rows(before: list[str]) -> None:
    alignment = Alignment()
    alignment.add(keys_of(before))
    with pytest.raises(RepeatedKeyError) as caught:
        alignment.add(keys_of(["a", "b", "c", "b"]))
    assert (caught.value.first, caught.value.second) == (1, 3)


def test_a_spool_gives_back_what_was_put_in_and_removes_its_files(tmp_path: Path) -> None:
    spool = KeySpool(tmp_path / "spool")
    assert [len(part) for part in spool.read()] == [0, 0]
    for ids, numbers in ((["a", "b"], [3, 1]), ([], []), (["c"], [7])):
        spool.append_keys(keys_of(ids))
        spool.append_examples(np.array(numbers, dtype=np.int64))
    keys, examples = spool.read()
    assert keys.tolist() == keys_of(["a", "b", "c"]).tolist()
    assert examples.tolist() == [3, 1, 7]
    spool.remove()
    assert list(tmp_path.iterdir()) == []
