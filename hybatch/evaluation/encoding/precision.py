"""The precisions that an encoder may run in when it is measured, and what `auto` is of them."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch

from hybatch.errors import UserError
from hybatch.models.precision import why_not_all_bf16, why_not_bf16

Precision = Literal["float32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
AUTO = "auto"


def settle_precision(asked: str, device: torch.device) -> Precision:
    """What --precision comes to: `auto` is bf16 where the devices of all processes have it, else float32; collective.

    Args:
        asked: one of PRECISIONS, or AUTO; the same on every process.
        device: of this process's encoder.
    """
    if asked == AUTO:
        return "float32" if why_not_all_bf16(device) else "bf16"
    return cast(Precision, asked)


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
        if reason := why_not_bf16(device):
            raise UserError(f"--precision bf16: {reason}: slower than float32; say auto, or leave the option out")
    return torch.bfloat16 if precision == "bf16" else torch.float16
