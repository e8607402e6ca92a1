"""Passage groups against a search over all pairs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.corpus.index.groups import PassageGroups


def naive_groups(size: int, joined: list[tuple[int, int]]) -> list[int]:
    """Repaint until nothing changes, then number by first appearance."""
    color = list(range(size))
    changed = True
    while changed:
        changed = False
        for a, b in joined:
            if color[a] != color[b]:
                color[a] = color[b] = min(color[a], color[b])
                changed = True
    order = sorted(set(color), key=color.index)
    return [order.index(c) for c in color]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_groups_are_the_connected_components_numbered_by_first_appearance(pairs: list[tuple[int, int]]) -> None:
    groups = PassageGroups(20)
    left, right = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    groups.join(left, right)
    assert groups.numbered().tolist() == naive_groups(20, pairs)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_joining_by_several_numberings_joins_whoever_shares_any(numbers: list[tuple[int, int]]) -> None:
    groups = PassageGroups(len(numbers))
    for column in np.array(numbers).T:
        groups.join_equal_numbers(column)
    pairs = [
        (i, j)
        for i, (a, b) in enumerate(numbers)
        for j, (c, d) in enumerate(numbers)
        if a == c or b == d
    ]  # fmt: skip
    assert groups.numbered().tolist() == naive_groups(len(numbers), pairs)


def test_a_long_chain_in_random_order_is_one_group() -> None:
    order = np.random.default_rng(0).permutation(10_000)
    groups = PassageGroups(10_000)
    groups.join(order[:-1], order[1:])
    assert groups.numbered().max() == 0
