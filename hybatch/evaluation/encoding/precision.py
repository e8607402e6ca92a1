"""The precisions that an encoder may run in when it is measured."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from hybatch.errors import UserError

Precision = Literal["float32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """What the encoder runs in under autocast; None for float32.

    Raises:
        UserError: the device is slower in this precision than in float32.
    """
    if precision == "float32":
        return None
    if device.type == "cpu":
        if precision == "fp16":
            raise UserError("--precision fp16 is for GPUs: use bf16 or float32 on a CPU")
        if not cpu_has_bf16():
            raise UserError(
                "--precision bf16: this processor has neither AVX512-BF16 nor AMX: slower than float32; "
                "leave the option out"
            )
    return torch.bfloat16 if precision == "bf16" else torch.float16


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 matrices by instructions of its own."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
