"""128-bit keys of texts, and which of them are equal, in memory of a few words a key whatever the texts' length.

At 10^9 texts the chance that two different ones share a key is below 10^-20.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
"""[n, 2]: two words a key."""

_KEYS_AT_ONCE = 1 << 25


def keys_of(texts: Iterable[str]) -> Keys:
    """One key a text: [n, 2] uint64.

    Raises:
        UnicodeEncodeError: a text holds half a surrogate pair, which UTF-8 cannot express.
    """
    return np.frombuffer(b"".join([xxhash.xxh3_128_digest(text.encode()) for text in texts]), dtype=np.uint64).reshape(
        -1, 2
    )


def first_occurrence(keys: Keys) -> NDArray[np.int64]:
    """For every key the smallest index that holds an equal one: [n] int64.

    Sorts one range of keys after the other, so that beside the result only _KEYS_AT_ONCE keys need memory.
    """
    result = np.empty(len(keys), dtype=np.int64)
    bits = max(0, (len(keys) - 1) // _KEYS_AT_ONCE).bit_length()
    if bits == 0:
        return _first_in_range(np.asarray(keys))
    prefix = (keys[:, 0] >> np.uint64(64 - bits)).astype(np.uint16)
    for value in range(1 << bits):
        members = np.flatnonzero(prefix == value)
        result[members] = members[_first_in_range(np.asarray(keys[members]))]
    return result


def _first_in_range(keys: Keys) -> NDArray[np.int64]:
    order = np.argsort(keys[:, 0], kind="stable")
    same = keys[order[1:], 0] == keys[order[:-1], 0]
    if not np.array_equal(keys[order[1:][same], 1], keys[order[:-1][same], 1]):
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        same = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
    starts = np.concatenate([[True], ~same]) if len(keys) else np.zeros(0, dtype=bool)
    first = np.empty(len(keys), dtype=np.int64)
    first[order] = order[np.flatnonzero(starts)][np.cumsum(starts) - 1]
    return first


class KeyTable:
    """Finds keys in a table of them, sorted once."""

    def __init__(self, table: Keys) -> None:
        self._order = np.argsort(table[:, 0], kind="stable")
        self._first_words = table[self._order, 0]
        self._table = table

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """For every key the first row of the table that equals it, -1 where none does: [n] int64."""
        at = np.searchsorted(self._first_words, keys[:, 0])
        rows = np.full(len(keys), -1, dtype=np.int64)
        open_ones = np.arange(len(keys))
        while open_ones.size:
            inside = at[open_ones] < len(self._first_words)
            open_ones = open_ones[inside]
            open_ones = open_ones[self._first_words[at[open_ones]] == keys[open_ones, 0]]
            candidates = self._order[at[open_ones]]
            equal = self._table[candidates, 1] == keys[open_ones, 1]
            rows[open_ones[equal]] = candidates[equal]
            # Another key with the same first word may stand in between.
            open_ones = open_ones[~equal]
            at[open_ones] += 1
        return rows


class RepeatedKeyError(Exception):
    """Two rows of one language have one id."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"rows {first} and {second} share an id")
        self.first = first
        self.second = second


class Alignment:
    """Numbers ids by first appearance over the languages added one after the other."""

    def __init__(self) -> None:
        self.keys: Keys = np.zeros((0, 2), dtype=np.uint64)

    def add(self, keys: Keys) -> NDArray[np.int64] | None:
        """Number the ids of one more language.

        Returns:
            The number of every row's id: [n] int64; None where row i has number i, the cheap and usual case of
            parallel files in the same order.

        Raises:
            RepeatedKeyError: an id stands in two rows.
        """
        known = len(self.keys)
        in_order = np.array_equal(keys[:known], self.keys[: len(keys)])
        if in_order and len(keys) <= known:
            return None
        first = first_occurrence(keys)
        repeated = np.flatnonzero(first != np.arange(len(keys)))
        if repeated.size:
            raise RepeatedKeyError(int(first[repeated[0]]), int(repeated[0]))
        if in_order:
            self.keys = keys
            return None
        numbers = KeyTable(self.keys).find(keys)
        new = numbers < 0
        numbers[new] = np.arange(known, known + np.count_nonzero(new))
        self.keys = np.concatenate([self.keys, keys[new]])
        return numbers


class KeySpool:
    """Pairs (key, example) kept on disk while the languages go by.

    The two halves are appended apart, since a language's keys are read before its rows are numbered.
    """

    def __init__(self, path: Path) -> None:
        self._keys_path = path.with_suffix(".keys")
        self._examples_path = path.with_suffix(".examples")
        self._num = 0

    def append_keys(self, keys: Keys) -> None:
        with open(self._keys_path, "ab") as file:
            # Not ndarray.tofile, whose error on a full disk has no number that tells what happened.
            file.write(keys.data)

    def append_examples(self, examples: NDArray[np.int64]) -> None:
        with open(self._examples_path, "ab") as file:
            file.write(examples.data)
        self._num += len(examples)

    def read(self) -> tuple[Keys, NDArray[np.int64]]:
        """Memory-mapped keys [n, 2] and examples [n]."""
        if self._num == 0:
            return np.zeros((0, 2), dtype=np.uint64), np.zeros(0, dtype=np.int64)
        keys = np.memmap(self._keys_path, dtype=np.uint64, mode="r").reshape(-1, 2)
        return keys, np.memmap(self._examples_path, dtype=np.int64, mode="r")

    def remove(self) -> None:
        self._keys_path.unlink(missing_ok=True)
        self._examples_path.unlink(missing_ok=True)
