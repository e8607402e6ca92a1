"""Random numbers and permutations that are functions of a key: nothing is stored, nothing advances.

A *key* is a 64-bit integer derived from words and numbers (`derive_key`). `draws(key, counters)` gives one 64-bit
number for each counter, in any order and without the ones between; `KeyedPermutation(size, key)` gives the place of
any element of a shuffle of `range(size)` without making the shuffle. Everything is integer arithmetic modulo 2^64, so
the numbers are the same on every machine and with every version of numpy.

The stream, exactly (all modulo 2^64):

    mix(x):            x ^= x >> 30; x *= 0xBF58476D1CE4E5B9; x ^= x >> 27; x *= 0x94D049BB133111EB; x ^= x >> 31
    draws(key, c):     mix(mix(key + c * 0x9E3779B97F4A7C15) + (key ^ 0xD1B54A32D192ED03))
    bounded(h, bound): ((h >> 20) * bound) >> 44

`mix` is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014; constants: Stafford's variant 13), one pass of which already passes the usual test batteries on a counter. The
second pass, with the key put in again, keeps keys that differ by a multiple of the increment from giving shifted
copies of one stream.

The permutation is a Feistel network over pairs (L, R) with L < a, R < b, a = ceil(sqrt(size)), b = ceil(size / a)
(Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002): element x is L = x // b, R = x % b; round r
adds to L (even r) or R (odd r), modulo its range, a number drawn from the other half:

    round key r:       draws(key, r)
    even r:            L = (L + bounded(mix(R + round key), a)) % a
    odd r:             R = (R + bounded(mix(L + round key), b)) % b

There are 10 rounds, and 24 where `size` < 1024: the smaller the halves, the more rounds it takes until all orders are
equally likely (with 10, some orders of 5 elements come too often by a few percent).

Every round can be undone, so the network is a bijection of [0, a * b). That is at most a - 1 more than `size`; an
element that lands outside [0, size) is sent through again until it lands inside (cycle walking), which makes it a
bijection of [0, size).
"""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import numpy.typing as npt

UInt64Array = npt.NDArray[np.uint64]
Int64Array = npt.NDArray[np.int64]

_INCREMENT = 0x9E3779B97F4A7C15
_SECOND_PASS = 0xD1B54A32D192ED03
_ROUNDS = 10
_ROUNDS_WHEN_SMALL = 24
_SMALL = 1024
_MAX_SIZE = 1 << 40


def derive_key(*parts: str | int) -> int:
    """A 64-bit key from words and numbers: the first 8 bytes of SHA-256 over their JSON list, little-endian."""
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "little")


def mix(values: UInt64Array) -> UInt64Array:
    """The bijection of 64-bit numbers given in the module's description, element by element, into a new array."""
    mixed = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def draws(key: int, counters: npt.NDArray[np.integer]) -> UInt64Array:
    """One uniform 64-bit number for each counter.

    Args:
        key: any integer in [0, 2^64).
        counters: non-negative integers, any shape with at least one axis.
    """
    # Scalars would warn where arrays wrap around in silence.
    state = np.atleast_1d(counters).astype(np.uint64)
    state *= np.uint64(_INCREMENT)
    state += np.uint64(key)
    state = mix(state)
    state += np.uint64(key ^ _SECOND_PASS)
    return mix(state)


def subkey(key: int, counter: int) -> int:
    """The key numbered `counter` under `key`: `draws(key, counter)` as an integer."""
    return int(draws(key, np.array([counter], dtype=np.uint64))[0])


def bounded(numbers: UInt64Array, bounds: UInt64Array | int) -> UInt64Array:
    """Uniform integers in [0, bound) from 64-bit numbers; every bound is in [1, 2^20], the products then fit 64 bits.

    The chance of one outcome differs from 1 / bound by less than 2^-44.
    """
    return ((numbers >> np.uint64(20)) * np.asarray(bounds, dtype=np.uint64)) >> np.uint64(44)


def bounded_widely(numbers: UInt64Array, bounds: UInt64Array) -> UInt64Array:
    """The same for bounds in [1, 2^32]: (h * bound) >> 64, of which no part is lost."""
    high, low = numbers >> np.uint64(32), numbers & np.uint64(0xFFFFFFFF)
    return (high * bounds + ((low * bounds) >> np.uint64(32))) >> np.uint64(32)


class KeyedPermutation:
    """A shuffle of range(size) of which any element can be asked for alone.

    Args:
        size: number of elements, in [1, 2^40].
        key: chooses the permutation; unequal keys give independent permutations.

    Raises:
        ValueError: `size` is out of range.
    """

    def __init__(self, size: int, key: int) -> None:
        if not 1 <= size <= _MAX_SIZE:
            raise ValueError(f"a permutation has between 1 and 2^40 elements, not {size}")
        self.size = size
        self._num_left = math.isqrt(size - 1) + 1
        self._num_right = -(-size // self._num_left)
        self._round_keys = draws(key, np.arange(_ROUNDS if size >= _SMALL else _ROUNDS_WHEN_SMALL))

    def __call__(self, places: npt.NDArray[np.integer]) -> Int64Array:
        """The elements at `places` of the shuffle: int64, of the shape of `places`; O(len(places)).

        `places` are integers in [0, size); others are not looked for and give meaningless elements.
        """
        elements = self._encipher(np.asarray(places).astype(np.uint64))
        outside = np.flatnonzero(elements >= self.size)
        while outside.size:
            walked = self._encipher(elements[outside])
            elements[outside] = walked
            outside = outside[walked >= self.size]
        return elements.astype(np.int64)

    def _encipher(self, values: UInt64Array) -> UInt64Array:
        num_left, num_right = np.uint64(self._num_left), np.uint64(self._num_right)
        left, right = np.divmod(values, num_right)
        for round_index, round_key in enumerate(self._round_keys):
            if round_index % 2 == 0:
                left += bounded(mix(right + round_key), self._num_left)
                left -= num_left * (left >= num_left)
            else:
                right += bounded(mix(left + round_key), self._num_right)
                right -= num_right * (right >= num_right)
        left *= num_right
        left += right
        return left
