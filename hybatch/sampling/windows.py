"""How an epoch of a cell is cut into windows, one a batch, so that batches of an epoch share no example.

An epoch shuffles the n usable examples of the cell. It is cut into S windows of w = n // S places; batch j of the
epoch owns window j. A window is wider than the batch by what the batch is expected to skip because its passage group
is already there: w >= m, where m is the smallest width with

    m - D(m) - 3 sqrt(D(m)) >= batch_size

and D(m) bounds the expected number of skipped examples among the first m. A group of c examples is expected to have
c m / n of them there and to be there at all with probability at least 1 - (1 - m/n)^c, so

    D(m) = sum over groups of  c m / n - 1 + (1 - m/n)^c

which is 0 where all groups are single examples: then m = batch_size. The variance of that number is at most about 1.4
times its mean, so that the root adds two and a half standard deviations or more: a window is rarely too narrow. Where
no m <= n is wide enough, the epoch is one window: every batch reads the head of a fresh shuffle, as far as it takes to
meet batch_size groups.

A batch that does need more than its window goes on through the epoch in a fixed order: the tail that no window owns
(the last n - S w places), then the windows that follow its own, and after the last of them the first. Only then can an
example stand in two batches of one epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hybatch.sampling.keyed import Int64Array

_GROWTH = 1.25


@dataclass(frozen=True)
class Windows:
    """An epoch of `num_examples` places cut into `count` windows of `width` places and a tail.

    `needed` (m of the module's description) is how many places a batch will rarely exceed.
    """

    num_examples: int
    count: int
    width: int
    needed: int

    @property
    def tail(self) -> int:
        """Places at the end of the epoch that no window owns."""
        return self.num_examples - self.count * self.width

    def places(self, window: int, start: int, stop: int) -> Int64Array:
        """The places of the epoch that come `start`-th .. `stop`-1-th for the batch of `window`: int64.

        For start = 0 and stop = num_examples these are all places of the epoch, each once.
        """
        order = np.arange(start, min(stop, self.num_examples), dtype=np.int64)
        owned = self.count * self.width
        # Behind the window and the tail the order is that of the windows, from the next one round to this one.
        following = ((window + 1) * self.width + order - self.width - self.tail) % owned
        outside = np.where(order < self.width + self.tail, owned + order - self.width, following)
        return np.where(order < self.width, window * self.width + order, outside)


def cut_epoch(num_examples: int, batch_size: int, group_sizes: Int64Array, group_counts: Int64Array) -> Windows:
    """Cut an epoch of a cell into windows.

    Args:
        num_examples: n, usable examples of the cell; at least batch_size.
        batch_size: examples of a batch.
        group_sizes, group_counts: [k]; there are group_counts[i] passage groups of group_sizes[i] usable examples.
    """
    needed = _needed_places(num_examples, batch_size, group_sizes, group_counts)
    count = num_examples // needed
    return Windows(num_examples=num_examples, count=count, width=num_examples // count, needed=needed)


def expected_displaced(width: int, num_examples: int, group_sizes: Int64Array, group_counts: Int64Array) -> float:
    """D(width) of the module's description: a bound on the examples expected to give way among `width` at random.

    Only additions and multiplications in one fixed order, and an exact sum, so that every machine finds the same.
    """
    shared = group_sizes > 1
    sizes, counts = group_sizes[shared], group_counts[shared]
    share = width / num_examples
    absent = np.ones(len(sizes))
    factor, exponent = 1.0 - share, sizes.copy()
    while exponent.any():
        absent[exponent % 2 == 1] *= factor
        factor, exponent = factor * factor, exponent // 2
    return math.fsum((counts * (sizes * share - (1.0 - absent))).tolist())


def _needed_places(num_examples: int, batch_size: int, group_sizes: Int64Array, group_counts: Int64Array) -> int:
    def wide_enough(width: int) -> bool:
        displaced = max(0.0, expected_displaced(width, num_examples, group_sizes, group_counts))
        return width - displaced - 3.0 * math.sqrt(displaced) >= batch_size

    too_narrow, width = batch_size - 1, batch_size
    while not wide_enough(width):
        if width == num_examples:
            return num_examples
        too_narrow, width = width, min(num_examples, math.ceil(width * _GROWTH))
    while width - too_narrow > 1:
        middle = (width + too_narrow) // 2
        if wide_enough(middle):
            width = middle
        else:
            too_narrow = middle
    return width
