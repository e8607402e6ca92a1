"""Builds the device model: csrc/ translated and compiled by g++ with the model's runtime, into one shared library.

Usage: python -m tests.csrc.device_model.build [--kind plain|address|thread] [--csrc CSRC] [--folder FOLDER]

Needs g++ 12 or later and ninja, on x86-64 with AVX2, FMA and F16C. No nvcc, no torch, no GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.csrc.device_model.translate import translate_tree

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
FOLDER = REPOSITORY / "build" / "device_model"

FLAGS = "-std=c++20 -g1 -fPIC -fno-gnu-unique -mavx2 -mfma -mf16c -ffp-contract=off -fno-strict-aliasing"
WARNINGS = "-Wall -Wextra"
# Flags for the kernels, for the model itself, and for the link. The model of a race detector is none of its subjects.
KINDS = {
    "plain": ("-O2", "-O3 -fno-math-errno", ""),
    "address": ("-O1 -fsanitize=address -fno-omit-frame-pointer", "-O2 -fsanitize=address", "-fsanitize=address"),
    "thread": ("-O1 -fsanitize=thread", "-O2 -DDEVICE_MODEL_THREAD_SANITIZER", "-fsanitize=thread"),
}


def ninja() -> str | None:
    """The program: the Python package's, else the one that is on the path."""
    if importlib.util.find_spec("ninja") is None:
        return shutil.which("ninja")
    return str(Path(importlib.import_module("ninja").BIN_DIR) / "ninja")


def why_not() -> str | None:
    """What this machine lacks to build and run the model."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return f"the device model runs on x86-64 and Linux, not on {platform.machine()} and {platform.system()}"
    if shutil.which("g++") is None:
        return "the device model is compiled by g++, which is not there"
    if ninja() is None:
        return "the device model is built by ninja, which is not there"
    flags = set(Path("/proc/cpuinfo").read_text().split())
    missing = {"avx2", "fma", "f16c"} - flags
    return f"the device model needs {', '.join(sorted(missing))}, which this processor lacks" if missing else None


def escaped(path: Path) -> str:
    """As ninja wants a path outside of commands."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def quoted(path: Path) -> str:
    """As the shell wants it, in a command."""
    return shlex.quote(str(path)).replace("$", "$$")


def ninja_file(kind: str, folder: Path, kernels: list[Path]) -> str:
    for_kernels, for_model, link = KINDS[kind]
    include = f"-I{quoted(HERE / 'include')} -I{quoted(folder / 'csrc')}"
    language = "-include device_model/language.h -x c++"
    depfile = "-MD -MF $out.d -c $in -o $out\n  depfile = $out.d\n  deps = gcc"
    lines = [
        "ninja_required_version = 1.8",
        f"builddir = {escaped(folder / kind)}",
        f"rule kernel\n  command = g++ {FLAGS} {for_kernels} -w -Wno-psabi {include} {language} {depfile}",
        f"rule model\n  command = g++ {FLAGS} {for_model} {WARNINGS} {include} {depfile}",
        f"rule link\n  command = g++ -shared {link} -o $out $in",
    ]
    edges = [("kernel", folder / "csrc" / name, name) for name in kernels]
    edges += [("model", path, Path("runtime") / path.name) for path in sorted((HERE / "runtime").glob("*.cpp"))]
    objects = []
    for rule, source, name in edges:
        objects.append(escaped(folder / kind / name.with_suffix(".o")))
        lines.append(f"build {objects[-1]}: {rule} {escaped(source)}")
    lines.append(f"build {escaped(library(kind, folder))}: link {' '.join(objects)}")
    return "\n".join(lines) + "\n"


def library(kind: str, folder: Path) -> Path:
    return folder / f"device_model-{kind}.so"


def build(
    kind: str = "plain",
    csrc: Path = REPOSITORY / "csrc",
    folder: Path = FOLDER,
    rooms: tuple[str, ...] = ("common", "contrastive", "ranking"),
) -> Path:
    """The library, with the kernels of these rooms of csrc/; built anew where a source has changed."""
    folder.mkdir(parents=True, exist_ok=True)
    kernels = [name for name in translate_tree(csrc.resolve(), folder / "csrc") if name.parts[0] in rooms]
    file = folder / f"{kind}.ninja"
    file.write_text(ninja_file(kind, folder, kernels))
    jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
    command = [str(ninja()), "-f", str(file), "-j", jobs, "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"the device model does not compile:\n{result.stdout[-4000:]}{result.stderr[-1000:]}")
    return library(kind, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=list(KINDS), default="plain")
    parser.add_argument("--csrc", type=Path, default=REPOSITORY / "csrc")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    print(build(arguments.kind, arguments.csrc, arguments.folder))
