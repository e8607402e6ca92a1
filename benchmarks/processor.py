"""Which processor this is, and how many operations a second it does at best.

A ratio to a library's matrix product says as much of the library as of what is compared with it; a share of the peak
does not. The peak is measured, not looked up: fused multiply-adds in registers, on as many threads as are compared.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybatch.ops.processor import processor_name

SOURCE = Path(__file__).with_name("peak.cpp")
COMPILERS = ("g++", "c++", "clang++")


@dataclass(frozen=True)
class Microarchitecture:
    key: str
    """In the names of result files; letters and digits only."""
    title: str
    vendor: str
    family: int
    """On ARM none: 0."""
    models: range
    """On ARM the part's number."""
    steppings: range = range(256)


MICROARCHITECTURES = (
    Microarchitecture("zen3", "AMD Zen 3", "AuthenticAMD", 25, range(0x10)),
    Microarchitecture("zen3", "AMD Zen 3", "AuthenticAMD", 25, range(0x20, 0x60)),
    Microarchitecture("zen4", "AMD Zen 4", "AuthenticAMD", 25, range(0x10, 0x20)),
    Microarchitecture("zen4", "AMD Zen 4", "AuthenticAMD", 25, range(0x60, 0x80)),
    Microarchitecture("zen4", "AMD Zen 4", "AuthenticAMD", 25, range(0xA0, 0xB0)),
    Microarchitecture("zen5", "AMD Zen 5", "AuthenticAMD", 26, range(0x80)),
    Microarchitecture("skylake", "Intel Xeon, Skylake", "GenuineIntel", 6, range(0x55, 0x56), range(5)),
    Microarchitecture("cascadelake", "Intel Xeon, Cascade Lake", "GenuineIntel", 6, range(0x55, 0x56), range(5, 8)),
    Microarchitecture("icelake", "Intel Xeon, Ice Lake", "GenuineIntel", 6, range(0x6A, 0x6B)),
    Microarchitecture("sapphirerapids", "Intel Xeon, Sapphire Rapids", "GenuineIntel", 6, range(0x8F, 0x90)),
    Microarchitecture("emeraldrapids", "Intel Xeon, Emerald Rapids", "GenuineIntel", 6, range(0xCF, 0xD0)),
    Microarchitecture("graniterapids", "Intel Xeon, Granite Rapids", "GenuineIntel", 6, range(0xAD, 0xAF)),
    Microarchitecture("neoversen1", "Arm Neoverse N1", "0x41", 0, range(0xD0C, 0xD0D)),
    Microarchitecture("neoversev1", "Arm Neoverse V1", "0x41", 0, range(0xD40, 0xD41)),
    Microarchitecture("neoversen2", "Arm Neoverse N2", "0x41", 0, range(0xD49, 0xD4A)),
    Microarchitecture("neoversev2", "Arm Neoverse V2", "0x41", 0, range(0xD4F, 0xD50)),
)


def microarchitecture(found: Mapping[str, str]) -> Microarchitecture | None:
    """None for one that is not in the table."""
    vendor = found.get("vendor_id") or found.get("CPU implementer")
    texts = (found.get("cpu family", "0"), found.get("model") or found.get("CPU part", ""), found.get("stepping", "0"))
    if not all(re.fullmatch("0x[0-9a-f]+|[0-9]+", text) for text in texts):
        return None
    family, model, stepping = (int(text, 0) for text in texts)
    for one in MICROARCHITECTURES:
        if (one.vendor, one.family) == (vendor, family) and model in one.models and stepping in one.steppings:
            return one
    return None


def name(found: Mapping[str, str]) -> str:
    """As `hybatch.ops.processor` has it, and the microarchitecture where it is in the table."""
    known = microarchitecture(found)
    return processor_name(found, *([known.title] if known else []))


def key(found: Mapping[str, str]) -> str:
    """For the name of a results file, as in ranking-cpu-KEY.json."""
    known = microarchitecture(found)
    return known.key if known else re.sub("[^a-z0-9]", "", (found.get("model name") or platform.machine()).lower())


def title(processor: str) -> str:
    """Of a key; one that is in no table stands for itself."""
    return next((one.title for one in MICROARCHITECTURES if one.key == processor), processor)


def share_of_peak(row: dict[str, Any], about: dict[str, Any]) -> float | None:
    """Of a benchmark's row, whose work of `gflop` takes `p50` seconds; None where that or the peak is not known."""
    gflop, peak = row.get("gflop"), about.get("peak_gflops")
    return None if gflop is None or peak is None else gflop / row["p50"] / peak


def peak_gflops(threads: int) -> float | None:
    """10^9 fp32 operations a second of that many threads at best; None where that cannot be compiled, which is told.

    A fused multiply-add counts as two. Takes about two seconds.
    """
    compiler = os.environ.get("CXX", "").split() or list(filter(None, map(shutil.which, COMPILERS)))[:1]
    if not compiler:
        print(f"no share of the processor's peak: no C++ compiler to measure it with (CXX, {', '.join(COMPILERS)})")
        return None
    flags = ["-std=c++20", "-O3", "-ffp-contract=fast", "-pthread"]
    flags += ["-march=native"] if platform.machine().lower() in ("x86_64", "amd64") else []
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder, "peak"))
        if subprocess.run([*compiler, *flags, str(SOURCE), "-o", program]).returncode != 0:
            print(f"no share of the processor's peak: {' '.join(compiler)} could not compile {SOURCE.name}")
            return None
        return round(float(subprocess.check_output([program, str(threads)], text=True)) / 1e9, 1)
