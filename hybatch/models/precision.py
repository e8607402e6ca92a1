"""Whether an encoder gains by bf16 on a device: asked of an allow-list, and answered alike for all processes.

Elsewhere products in bf16 are emulated, by conversions that cost more than they save: slower than float32.
"""

from __future__ import annotations

import torch

from hybatch.processes import gather_objects


def why_not_bf16(device: torch.device) -> str | None:
    """What a device lacks to multiply matrices in bf16 by instructions of its own; None: nothing.

    CUDA devices that have them and processors with AVX512-BF16 or AMX lack nothing.
    """
    if device.type == "cpu":
        has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return None if has_bf16 else "this processor has neither AVX512-BF16 nor AMX"
    if device.type == "cuda":
        with torch.cuda.device(device):
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return None if has_bf16 else f"{torch.cuda.get_device_name(device)} has no instructions for bf16"
    return f"devices of type {device.type} are not known to gain by bf16"


def why_not_all_bf16(device: torch.device) -> str | None:
    """What the first process lacks whose device lacks anything (see `why_not_bf16`); None: none does. Collective.

    Args:
        device: of this process's encoder.
    """
    reasons = gather_objects(why_not_bf16(device))
    lacking = [process for process, reason in enumerate(reasons) if reason is not None]
    if not lacking:
        return None
    # Where all processes lack it, there is no need to tell them apart.
    return f"process {lacking[0]}: {reasons[lacking[0]]}" if len(lacking) < len(reasons) else reasons[0]
