"""Passage groups: which examples stand for the same passage, so that none is ever another's negative."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hybatch.corpus.index.keys import Keys, first_occurrence


class PassageGroups:
    """Connected components of `size` examples under any number of joins, one word of memory an example."""

    def __init__(self, size: int) -> None:
        self._parent = np.arange(size, dtype=np.int64)

    def join_equal_keys(self, keys: Keys, examples: NDArray[np.int64]) -> None:
        """Join the examples that share a key; `keys` [n, 2] and `examples` [n] are parallel."""
        self.join(examples[first_occurrence(keys)], examples)

    def join_equal_numbers(self, numbers: NDArray[np.int64]) -> None:
        """Join the examples i, j with numbers[i] == numbers[j]; `numbers` [size] are not negative."""
        examples = np.arange(len(numbers), dtype=np.int64)
        first = np.full(int(numbers.max(initial=-1)) + 1, -1, dtype=np.int64)
        first[numbers[::-1]] = examples[::-1]
        self.join(first[numbers], examples)

    def join(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        """Join left[i] with right[i] for every i."""
        while True:
            # Every parent is a root here, so that a round hooks roots below smaller roots only: no cycle can arise.
            left_root, right_root = self._parent[left], self._parent[right]
            apart = left_root != right_root
            if not apart.any():
                return
            left, right, left_root, right_root = left[apart], right[apart], left_root[apart], right_root[apart]
            np.minimum.at(self._parent, np.maximum(left_root, right_root), np.minimum(left_root, right_root))
            self._flatten()

    def _flatten(self) -> None:
        while True:
            grandparent = self._parent[self._parent]
            if np.array_equal(grandparent, self._parent):
                return
            self._parent = grandparent

    def numbered(self) -> NDArray[np.int64]:
        """The group of every example, dense, numbered by first appearance: [size] int64."""
        roots = self._parent == np.arange(len(self._parent))
        return (np.cumsum(roots) - 1)[self._parent]
