"""Windows share nothing, cover what they say, and are wide enough for their batch."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hybatch.sampling.windows import Windows, cut_epoch, expected_displaced
from tests.sampling.patience import PATIENT


def sizes_of(groups: list[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct sizes of groups and how many groups have each."""
    return np.unique(np.unique(groups, return_counts=True)[1], return_counts=True)


group_lists = st.lists(st.integers(0, 30), min_size=1, max_size=200)


@PATIENT
@given(st.integers(1, 10_000), st.data())
def test_without_shared_passages_a_window_is_a_batch_and_an_epoch_leaves_less_than_a_batch(
    num_examples: int, data: st.DataObject
) -> None:
    batch_size = data.draw(st.integers(1, num_examples))
    windows = cut_epoch(num_examples, batch_size, np.array([1]), np.array([num_examples]))
    assert windows.needed == batch_size
    assert windows.count == num_examples // batch_size
    assert windows.width == num_examples // windows.count


@PATIENT
@given(group_lists, st.data())
def test_windows_and_tail_cut_the_epoch_whatever_the_groups(groups: list[int], data: st.DataObject) -> None:
    batch_size = data.draw(st.integers(1, len(set(groups))))
    windows = cut_epoch(len(groups), batch_size, *sizes_of(groups))
    assert windows.count >= 1
    assert windows.width >= windows.needed >= batch_size
    assert 0 <= windows.tail < windows.count
    own = [windows.places(window, 0, windows.width) for window in range(windows.count)]
    covered = np.concatenate([*own, np.arange(len(groups) - windows.tail, len(groups))])
    assert np.array_equal(np.sort(covered), np.arange(len(groups)))


@PATIENT
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 11), st.data())
def test_a_batch_reads_its_window_then_the_tail_then_the_windows_that_follow(
    count: int, width: int, tail: int, data: st.DataObject
) -> None:
    num_examples = count * width + tail
    windows = Windows(num_examples=num_examples, count=count, width=width, needed=width)
    window = data.draw(st.integers(0, count - 1))
    expected = list(range(window * width, (window + 1) * width)) + list(range(count * width, num_examples))
    for following in range(1, count):
        first = (window + following) % count * width
        expected += range(first, first + width)
    assert windows.places(window, 0, num_examples).tolist() == expected
    start = data.draw(st.integers(0, num_examples))
    stop = data.draw(st.integers(start, 2 * num_examples))
    assert windows.places(window, start, stop).tolist() == expected[start:stop]


@PATIENT
@given(group_lists, st.data())
def test_the_bound_on_displaced_examples_is_not_below_the_exact_expectation(
    groups: list[int], data: st.DataObject
) -> None:
    width = data.draw(st.integers(1, len(groups)))
    n, exact = len(groups), float(width)
    for size in np.unique(groups, return_counts=True)[1].tolist():
        absent = np.prod([(n - width - i) / (n - i) for i in range(size)]) if size <= n - width else 0.0
        exact -= 1 - absent
    bound = expected_displaced(width, n, *sizes_of(groups))
    assert bound >= exact - 1e-9
    assert bound <= width


def test_the_bound_is_close_where_groups_are_many() -> None:
    groups = np.arange(20_000) // 4
    generator = np.random.default_rng(0)
    observed = [1000 - len(np.unique(groups[generator.permutation(20_000)[:1000]])) for _ in range(300)]
    bound = expected_displaced(1000, 20_000, *sizes_of(groups))
    # About 73 with a standard deviation of 8: the mean of 300 is known to 0.5.
    assert abs(bound - np.mean(observed)) < 2.5


def test_most_windows_hold_a_batch_of_distinct_groups() -> None:
    groups = np.arange(30_000) // 3
    windows = cut_epoch(len(groups), 256, *sizes_of(groups))
    generator = np.random.default_rng(1)
    distinct = [
        len(np.unique(row))
        for row in groups[generator.permutation(windows.count * windows.width)].reshape(-1, windows.width)
    ]
    assert np.mean(np.array(distinct) >= 256) > 0.98
    assert windows.width <= 256 * 1.06


def test_where_no_window_is_wide_enough_the_epoch_is_one_window() -> None:
    groups = [0] * 1000 + list(range(1, 10))
    windows = cut_epoch(len(groups), 10, *sizes_of(groups))
    assert (windows.count, windows.width, windows.tail) == (1, len(groups), 0)
