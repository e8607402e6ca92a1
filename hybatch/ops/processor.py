"""What the processor of this machine is, as far as the system tells."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_IDENTIFYING = (
    *("vendor_id", "model name", "cpu family", "model", "stepping", "flags"),
    *("CPU implementer", "CPU part", "Features"),
)
"""Fields of /proc/cpuinfo on x86, and on ARM, that tell kinds of processors apart."""
_INSTRUCTION_SETS = (("avx512f", "AVX-512"), ("avx2", "AVX2"))


@functools.cache
def processor_facts() -> Mapping[str, str]:
    """What tells this kind of processor from others, by the names that /proc/cpuinfo gives it, and its cores."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = _apple()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    general = {"machine": platform.machine(), "processor": platform.processor(), "cores": str(os.cpu_count())}
    return general | {key: told[key] for key in _IDENTIFYING if key in told}


def _apple() -> list[str]:
    if shutil.which("sysctl") is None:
        return []
    asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
    return [f"model name: {asked.stdout}"] if asked.stdout.strip() else []


def processor_name(facts: Mapping[str, str], *known: str) -> str:
    """Name, family and model (virtual machines often shorten the name), the widest instruction set, and the cores.

    Args:
        facts: as of `processor_facts`.
        known: what else is known of it, said first.
    """
    name = facts.get("model name") or facts.get("processor") or facts.get("machine", "unknown")
    details = [*known, *(f"{key} {facts[key]}" for key in ("cpu family", "model", "CPU part") if key in facts)]
    details += next(([title] for flag, title in _INSTRUCTION_SETS if flag in facts.get("flags", "").split()), [])
    described = f" ({', '.join(details)})" if details else ""
    return f"{name}{described}, {facts.get('cores', os.cpu_count())} cores"
