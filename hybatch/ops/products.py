"""Products of float32 matrices whose rounding is that of float32.

Shape suffixes: N and M rows, H width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def float32_products(device: torch.device) -> Iterator[None]:
    """Let torch multiply float32 matrices on `device` as float32, whatever a training script has allowed for speed.

    Autocast would take them in 16 bits, `torch.set_float32_matmul_precision` and the settings under `torch.backends`
    in bf16 or tf32. Devices other than CPUs and GPUs of CUDA have settings that are not known here: autocast is all
    that is turned off for them.

    Autograd takes the products of a backward pass when it comes to them, outside of this: where gradients are wanted,
    `inner_products` takes both.
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


def inner_products(rows_NH: Tensor, others_MH: Tensor) -> Tensor:
    """The inner product of every row with every other, taken within `float32_products`, and its gradients likewise.

    Args:
        rows_NH, others_MH: of one float dtype and device.

    Returns:
        [N, M] of the same dtype, whatever autocast says; differentiable any number of times.
    """
    return _InnerProducts.apply(rows_NH, others_MH)


class _InnerProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_NH: Tensor, others_MH: Tensor) -> Tensor:
        ctx.save_for_backward(rows_NH, others_MH)
        with float32_products(rows_NH.device):
            return rows_NH @ others_MH.T

    @staticmethod
    def backward(ctx: Any, upstream_NM: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows_NH, others_MH = ctx.saved_tensors
        wanted_rows, wanted_others = ctx.needs_input_grad
        return (
            inner_products(upstream_NM, others_MH.T) if wanted_rows else None,
            inner_products(upstream_NM.T, rows_NH.T) if wanted_others else None,
        )
