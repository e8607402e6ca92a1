"""The figures of single queries against their definitions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybatch.evaluation.settings.metrics import figures_per_query, mean, tie_bounds

ranks_of_queries = st.lists(st.sets(st.integers(1, 60), max_size=5), min_size=1, max_size=6)


def _flatten(ranks: list[set[int]]) -> tuple[np.ndarray, np.ndarray]:
    flat = [(rank, query) for query, row in enumerate(ranks) for rank in row]
    table = np.array(flat, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def test_average_precision_is_the_mean_of_precision_at_each_positive() -> None:
    figures = figures_per_query(np.array([5, 2, 1]), np.array([0, 0, 1]), 2)
    np.testing.assert_allclose(figures.average_precision, [(1 / 2 + 2 / 5) / 2, 1.0])


def test_a_query_without_positives_is_left_out_and_counted() -> None:
    figures = figures_per_query(np.array([3]), np.array([1]), 4)
    assert (figures.num_queries, figures.num_skipped) == (1, 3)
    np.testing.assert_allclose(figures.average_precision, [1 / 3])


def test_no_positives_at_all_leave_no_figures() -> None:
    figures = figures_per_query(np.empty(0, np.int64), np.empty(0, np.int64), 2)
    assert figures.num_queries == 0
    assert figures.num_skipped == 2
    assert mean(figures.average_precision) is None


@given(ranks_of_queries)
def test_every_figure_follows_its_definition(ranks: list[set[int]]) -> None:
    figures = figures_per_query(*_flatten(ranks), len(ranks))
    counted = [sorted(row) for row in ranks if row]
    assert figures.num_skipped == len(ranks) - len(counted)
    for i, row in enumerate(counted):
        exact = sum(Fraction(place + 1, rank) for place, rank in enumerate(row)) / len(row)
        assert figures.average_precision[i] == pytest.approx(float(exact), rel=1e-14)
        assert figures.rank_distance[i] == row[-1] - row[0]
        for k in (1, 10):
            inside = sum(rank <= k for rank in row)
            assert figures.recall[k][i] == pytest.approx(inside / len(row), rel=1e-15)
            assert figures.hit[k][i] == float(inside > 0)


@given(ranks_of_queries, st.randoms())
def test_the_order_of_the_positives_does_not_matter(ranks: list[set[int]], random: object) -> None:
    ranks_P, query_P = _flatten(ranks)
    order = list(range(len(ranks_P)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one, other = (figures_per_query(ranks_P[o], query_P[o], len(ranks)) for o in (slice(None), order))
    np.testing.assert_array_equal(one.average_precision, other.average_precision)


@given(st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=12), min_size=1, max_size=4), st.data())
def test_tie_bounds_are_the_ranks_with_positives_first_and_last_in_each_block(
    scores_of_queries: list[list[int]], data: st.DataObject
) -> None:
    greater, tied, query, best, worst = [], [], [], [], []
    for q, scores in enumerate(scores_of_queries):
        positives = sorted(data.draw(st.sets(st.integers(0, len(scores) - 1), min_size=1)))
        for p in positives:
            greater.append(sum(s > scores[p] for s in scores))
            tied.append(sum(s == scores[p] for s in scores) - 1)
            query.append(q)
        for target, first in ((best, True), (worst, False)):
            order = sorted(range(len(scores)), key=lambda c: (-scores[c], (c in positives) != first))
            target.append([rank for rank, c in enumerate(order, start=1) if c in positives])
    optimistic, pessimistic = tie_bounds(np.array(greater), np.array(tied), np.array(query))
    for q in range(len(scores_of_queries)):
        mine = np.array(query) == q
        assert sorted(optimistic[mine]) == best[q]
        assert sorted(pessimistic[mine]) == worst[q]


def test_the_mean_does_not_depend_on_the_order() -> None:
    values = np.random.default_rng(0).random(1001)
    assert mean(values) == mean(values[::-1]) == mean(np.sort(values))
