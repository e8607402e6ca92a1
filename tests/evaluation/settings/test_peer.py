"""The Kruskal-Wallis test of all queries at once, against scipy's of one."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.evaluation.settings.peer import equal_rank_probability


def _probability(languages: list[list[int]], cutoff: int, num_groups: int) -> np.ndarray:
    """Of queries given by the language of the candidate at every place."""
    triples = [
        (place, query, group)
        for query, row in enumerate(languages)
        for place, group in enumerate(row, start=1)
        if place <= cutoff
    ]
    place_T, query_T, group_T = np.array(triples, dtype=np.int64).reshape(-1, 3).T
    sizes_QG = np.array([np.bincount(row, minlength=num_groups) for row in languages]).reshape(-1, num_groups)
    return equal_rank_probability(place_T, query_T, group_T, sizes_QG.astype(np.int64))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(st.integers(0, 4), max_size=40), min_size=1, max_size=5), st.integers(0, 45))
def test_every_query_has_the_p_value_that_scipy_gives_its_ranks(languages: list[list[int]], cutoff: int) -> None:
    found = _probability(languages, cutoff, 5)
    for row, p in zip(languages, found, strict=True):
        groups = [[min(i, cutoff) for i, group in enumerate(row) if group == g] for g in sorted(set(row))]
        if len(groups) < 2 or max(map(len, groups)) < 2:
            assert np.isnan(p)
        elif cutoff == 0:
            assert p == 1
        else:
            assert p == pytest.approx(scipy.stats.kruskal(*groups).pvalue, abs=1e-8)


@given(st.permutations(range(6)), st.integers(1, 8))
def test_groups_of_one_give_one_statistic_in_every_order_so_that_such_queries_are_left_out(
    order: list[int], cutoff: int
) -> None:
    statistic = scipy.stats.kruskal(*[[min(order.index(g), cutoff)] for g in range(6)]).statistic
    assert statistic == pytest.approx(5)
    assert np.isnan(_probability([list(order)], cutoff, 6)).all()


def test_an_even_list_is_likely_and_one_that_a_language_leads_is_not() -> None:
    even, led = [0, 1, 2, 2, 1, 0] * 10, [0] * 20 + [1, 2] * 20
    even_p, led_p = _probability([even, led], 60, 3)
    assert even_p > 0.9
    assert led_p < 1e-6


def test_a_language_that_takes_every_place_within_the_cutoff_is_found_out() -> None:
    assert _probability([[0] * 10 + [0, 1, 2] * 30], 10, 3)[0] < 1e-3
