"""What the processor of this machine is, as far as the system tells."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_IDENTIFYING = ("model name", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
"""Fields of /proc/cpuinfo on x86 and ARM that tell kinds of processors apart."""
_INSTRUCTION_SETS = (("avx512f", "AVX-512"), ("avx2", "AVX2"))


@functools.cache
def processor_facts() -> dict[str, str]:
    """What tells this kind of processor from others, by the names that /proc/cpuinfo gives it, and its cores."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    general = {"machine": platform.machine(), "processor": platform.processor(), "cores": str(os.cpu_count())}
    return general | {key: told[key] for key in _IDENTIFYING if key in told}


def processor_name() -> str:
    """Name, family and model (virtual machines often shorten the name), the widest instruction set, and the cores."""
    facts = processor_facts()
    name = facts.get("model name") or facts["processor"] or facts["machine"]
    details = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    details += next(([title] for flag, title in _INSTRUCTION_SETS if flag in facts.get("flags", "").split()), [])
    described = f" ({', '.join(details)})" if details else ""
    return f"{name}{described}, {facts['cores']} cores"
