"""Eager checks of what the contrastive ops are given: each message names the argument and the first offending entry."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybatch.ops.checks import ValueChecks, check_device, check_integers, first_bad_row
from hybatch.ops.precision import INPUT_DTYPES


def check_pair(queries: Tensor, candidates: Tensor) -> None:
    """[Q, H] and [D, H] of floating dtypes on one device."""
    for name, rows in (("queries", queries), ("candidates", candidates)):
        if not isinstance(rows, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(rows).__name__}")
        if rows.dtype not in (*INPUT_DTYPES, torch.float64):
            raise TypeError(f"{name}: expected float32, bfloat16, float16 or float64, got {rows.dtype}")
        if rows.dim() != 2:
            raise ValueError(f"{name}: expected shape [rows, width], got {list(rows.shape)}")
    if candidates.size(1) != queries.size(1):
        raise ValueError(f"candidates: rows have width {candidates.size(1)}, queries have width {queries.size(1)}")
    check_device("candidates", candidates, queries.device)


def check_labels(
    queries: Tensor, candidates: Tensor, positive_index: Tensor, query_groups: Tensor, candidate_groups: Tensor
) -> None:
    """One positive and one group per query, one group per candidate."""
    lengths = {
        "positive_index": (positive_index, len(queries)),
        "query_groups": (query_groups, len(queries)),
        "candidate_groups": (candidate_groups, len(candidates)),
    }
    for name, (values, length) in lengths.items():
        check_integers(name, values, length=length)
        check_device(name, values, queries.device)


def check_left_out(left_out: Tensor | None, queries: Tensor, candidates: Tensor) -> Tensor | None:
    """A bit for every pair of a query and a candidate, see `masking.pack_pairs`; gives it back contiguous."""
    if left_out is None:
        return None
    if left_out.dtype != torch.uint8:
        raise TypeError(f"left_out: expected uint8, got {left_out.dtype}")
    shape = [len(queries), -(-len(candidates) // 8)]
    if list(left_out.shape) != shape:
        raise ValueError(f"left_out: expected shape {shape}, got {list(left_out.shape)}")
    check_device("left_out", left_out, queries.device)
    return left_out.contiguous()


def check_temperature(temperature: float | Tensor, device: torch.device, *, read: bool = True) -> None:
    """A positive, finite number, or a floating tensor without dimensions on `device`, looked into only if `read`."""
    if isinstance(temperature, Tensor):
        if not temperature.is_floating_point():
            raise TypeError(f"temperature: expected a floating dtype, got {temperature.dtype}")
        if temperature.dim() != 0:
            raise ValueError(f"temperature: expected a tensor without dimensions, got shape {list(temperature.shape)}")
        check_device("temperature", temperature, device)
        if not read:
            return
        temperature = temperature.item()
    elif isinstance(temperature, bool) or not isinstance(temperature, float | int):
        raise TypeError(f"temperature: expected a number or a tensor, got {type(temperature).__name__}")
    value = float(temperature)
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"temperature: must be greater than 0 and finite, not {value}")


def check_values(queries: Tensor, candidates: Tensor, positive_index: Tensor) -> None:
    """Finite embeddings, positives among the candidates. Reads back once."""
    with ValueChecks() as values:
        values.finite(queries, lambda: _refuse_bad_row("queries", queries))
        values.finite(candidates, lambda: _refuse_bad_row("candidates", candidates))
        values.in_range("positive_index", positive_index, len(candidates))


def _refuse_bad_row(name: str, rows: Tensor) -> None:
    raise ValueError(f"{name}: row {first_bad_row(rows.detach())} holds a NaN or an infinity")
