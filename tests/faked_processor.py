"""Give this process a processor with or without instructions for bf16, as torch tells of it."""

from __future__ import annotations

import pytest
import torch


def fake_processor(patch: pytest.MonkeyPatch, *instructions: str) -> None:
    """Let torch find, of the instructions for bf16, these alone: "avx512_bf16", "amx_tile"."""
    found = torch.cpu.get_capabilities() | {"avx512_bf16": False, "amx_tile": False}
    found |= dict.fromkeys(instructions, True)
    patch.setattr(torch.cpu, "get_capabilities", lambda: found)
