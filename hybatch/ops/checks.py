"""Eager checks of what the ranking ops are given: each message names the argument and the first offending entry."""

from __future__ import annotations

import torch
from torch import Tensor

from hybatch.ops.codes import CODE_DTYPES
from hybatch.ops.precision import INPUT_DTYPES, PRECISIONS

INDEX_LIMIT = 2**31
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is none of {', '.join(PRECISIONS)}")


def check_embeddings(name: str, rows: Tensor, *, width: int | None = None) -> None:
    """[N, H] of a floating dtype that converts to float32 without loss, or codes: int8, or uint8 that holds bits."""
    if not isinstance(rows, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(rows).__name__}")
    if rows.dtype not in (*INPUT_DTYPES, *CODE_DTYPES):
        raise TypeError(
            f"{name}: expected float32, bfloat16 or float16, got {rows.dtype}; cast it first (codes are int8 or uint8)"
        )
    if rows.dim() != 2:
        raise ValueError(f"{name}: expected shape [rows, width], got {list(rows.shape)}")
    if width is not None and rows.size(1) != width:
        raise ValueError(f"{name}: rows have width {rows.size(1)}, queries have width {width}")


def check_same_codes(name: str, rows: Tensor, queries: Tensor) -> None:
    """Codes of one kind, or no codes, on both sides."""
    if rows.dtype != queries.dtype and (rows.dtype in CODE_DTYPES or queries.dtype in CODE_DTYPES):
        raise TypeError(f"{name}: {rows.dtype}, but queries are {queries.dtype}; codes are compared with their like")


def check_integers(name: str, values: Tensor, *, length: int | None = None) -> None:
    """[N] of an integer dtype."""
    if not isinstance(values, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(values).__name__}")
    if values.dtype not in _INTEGERS:
        raise TypeError(f"{name}: expected integers, got {values.dtype}")
    if values.dim() != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {list(values.shape)}")
    if length is not None and len(values) != length:
        raise ValueError(f"{name}: expected {length} entries, got {len(values)}")


def check_device(name: str, tensor: Tensor, device: torch.device) -> None:
    if tensor.device != device:
        raise ValueError(f"{name}: on {tensor.device}, but queries are on {device}")


def check_range(name: str, values: Tensor, limit: int) -> None:
    """Every entry in [0, limit). Reads the values back."""
    if not len(values):
        return
    lowest, highest = torch.stack(values.aminmax()).tolist()
    if lowest < 0 or highest >= limit:
        place = int(((values < 0) | (values >= limit)).nonzero()[0])
        raise ValueError(f"{name}: entry {place} is {int(values[place])}, outside [0, {limit})")


def check_offsets(name: str, offsets: Tensor, num_positives: int) -> None:
    """From 0 to the number of positives, never descending. Reads the values back."""
    descents = (offsets.diff() < 0).nonzero()
    if len(descents):
        place = int(descents[0])
        entry, following = offsets[place : place + 2].tolist()
        raise ValueError(f"{name}: must not descend, but entry {place} is {entry} and the next {following}")
    if int(offsets[0]) != 0 or int(offsets[-1]) != num_positives:
        raise ValueError(
            f"{name}: must run from 0 to the number of positives, {num_positives}; "
            f"runs from {int(offsets[0])} to {int(offsets[-1])}"
        )


def first_bad_row(rows: Tensor) -> int | None:
    """The first row that holds a NaN or infinity."""
    bad = (~rows.isfinite()).any(1).nonzero()
    return int(bad[0]) if len(bad) else None
