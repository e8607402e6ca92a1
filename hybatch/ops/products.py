"""Products of float32 matrices whose rounding is that of float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32_products(device: torch.device) -> Iterator[None]:
    """Let torch multiply float32 matrices on `device` as float32, whatever a training script has allowed for speed.

    Autocast would take them in 16 bits, `torch.set_float32_matmul_precision` and the settings under `torch.backends`
    in bf16 or tf32. Devices other than CPUs and GPUs of CUDA have settings that are not known here: autocast is all
    that is turned off for them.
    """
    cpu, cuda = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul  # type: ignore[attr-defined]
    settings = {"cpu": cpu, "cuda": cuda}.get(device.type)
    with torch.autocast(device.type, enabled=False):
        if settings is None:
            yield
            return
        allowed = settings.fp32_precision
        settings.fp32_precision = "ieee"
        try:
            yield
        finally:
            settings.fp32_precision = allowed
