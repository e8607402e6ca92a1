"""The precisions of a score, and the rounding of embeddings to them."""

from __future__ import annotations

import torch
from torch import Tensor

from hybatch.ops.codes import CODE_DTYPES, values_of

INPUT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_SIXTEEN_BIT = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("fp32", "tf32", *_SIXTEEN_BIT)


def round_rows(rows_NH: Tensor, precision: str, backend: str) -> Tensor:
    """The embeddings as the ops of `backend` take them for `precision`; contiguous and detached.

    To nearest, ties to even. For tf32 the CUDA kernels round by themselves. Codes stay what they are for the compiled
    ops; for torch they become the float32 values that they stand for, which changes no score.
    """
    rows_NH = rows_NH.detach()
    if rows_NH.dtype in CODE_DTYPES:
        return (values_of(rows_NH).float() if backend == "torch" else rows_NH).contiguous()
    if precision in _SIXTEEN_BIT:
        rows_NH = rows_NH.to(_SIXTEEN_BIT[precision])
    elif precision == "tf32":
        rows_NH = rows_NH.to(torch.float32)
        if backend != "cuda":
            rows_NH = _round_to_tf32(rows_NH)
    return rows_NH.contiguous()


def _round_to_tf32(rows_NH: Tensor) -> Tensor:
    """Keep 10 of the 23 fraction bits of a float32; NaN and infinity stay what they are."""
    bits_NH = rows_NH.contiguous().view(torch.int32)
    rounded_NH = (bits_NH + (0xFFF + ((bits_NH >> 13) & 1))) & ~0x1FFF
    return torch.where(rows_NH.isfinite(), rounded_NH.view(torch.float32), rows_NH)


def op_precision(precision: str, rescore: bool, backend: str) -> str:
    """The precision that the ops of `backend` are called with.

    Re-scoring the undecided in float32 gives the counts of float32 itself, so a backend that gains nothing from
    coarser inputs computes in float32 at once.
    """
    if precision == "fp32" or not rescore:
        return precision
    return f"{precision}+rescore" if backend == "cuda" else "fp32"
