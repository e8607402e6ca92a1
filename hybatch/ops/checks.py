"""Eager checks of what the ranking ops are given: each message names the argument and the first offending entry."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

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


class ValueChecks:
    """Checks of values, collected in the order of their faults and settled by one read when the block is left.

    To read from a device is to wait for all that it was given to do, so one read answers everything that is asked in
    the block. If the block is left by an exception, what was asked before goes first: faults are reported as if every
    check had been made on the spot.

    Args:
        enabled: otherwise nothing is asked, launched or read.
    """

    def __init__(self, enabled: bool = True) -> None:
        self._enabled = enabled
        self._questions: list[_Question] = []

    def __enter__(self) -> ValueChecks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        if kind is None or issubclass(kind, Exception):
            self.settle()

    def in_range(self, name: str, values: Tensor, limit: int) -> None:
        """Every entry of integers [N] in [0, limit)."""

        def refuse(lowest: int, highest: int) -> None:
            if lowest < 0 or highest >= limit:
                place = int(((values < 0) | (values >= limit)).nonzero()[0])
                raise ValueError(f"{name}: entry {place} is {int(values[place])}, outside [0, {limit})")

        if self._enabled and len(values):
            self._ask(torch.stack(values.aminmax()), refuse)

    def offsets(self, name: str, offsets: Tensor, num_positives: int) -> None:
        """From 0 to the number of positives, never descending; one entry or more."""

        def refuse(first: int, last: int, num_descents: int) -> None:
            if num_descents:
                place = int((offsets[1:] < offsets[:-1]).nonzero()[0])
                entry, following = offsets[place : place + 2].tolist()
                raise ValueError(f"{name}: must not descend, but entry {place} is {entry} and the next {following}")
            if first != 0 or last != num_positives:
                raise ValueError(
                    f"{name}: must run from 0 to the number of positives, {num_positives}; runs from {first} to {last}"
                )

        if self._enabled:
            descents = (offsets[1:] < offsets[:-1]).sum()
            self._ask(torch.stack([offsets[0].long(), offsets[-1].long(), descents]), refuse)

    def finite(self, values: Tensor, refuse: Callable[[], None]) -> None:
        """No NaN or infinity, else `refuse` is called; codes have none."""

        def refuse_if_any(num_bad: int) -> None:
            if num_bad:
                refuse()

        if self._enabled and values.is_floating_point() and values.numel():
            # Both extremes are NaN if any value is: one pass, and nothing of the size of the values.
            extremes = torch.stack(values.detach().aminmax())
            self._ask(extremes.isfinite().logical_not().sum()[None], refuse_if_any)

    def settle(self) -> None:
        """Read what was asked so far, and refuse the first fault.

        Raises:
            ValueError: as the check says.
        """
        questions, self._questions = self._questions, []
        if not questions:
            return
        device = questions[0].values.device
        answers = iter(torch.cat([question.values.to(device) for question in questions]).tolist())
        for question in questions:
            question.refuse(*itertools.islice(answers, len(question.values)))

    def _ask(self, values: Tensor, refuse: Callable[..., None]) -> None:
        self._questions.append(_Question(values.long(), refuse))


@dataclass(frozen=True)
class _Question:
    values: Tensor
    """[N] int64, on any device."""
    refuse: Callable[..., None]
    """Takes the N values, and raises if they tell of a fault; it may then read more, to name the place."""


def first_bad_row(rows: Tensor) -> int | None:
    """The first row that holds a NaN or infinity. Reads the values back."""
    bad = (~rows.isfinite()).any(1).nonzero()
    return int(bad[0]) if len(bad) else None
