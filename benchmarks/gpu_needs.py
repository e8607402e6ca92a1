"""Says what a machine has of what gpu.sh needs, and how it goes on without the rest.

    python benchmarks/gpu_needs.py

Exit status 1 where nothing can be tested: no torch with CUDA and a device, or no pytest.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Need:
    """One thing: what is there of it (None: nothing), and what happens without."""

    name: str
    found: str | None
    without: str
    is_fatal: bool = False

    def line(self) -> str:
        if self.found is not None:
            return f"{self.name}: {self.found}"
        return f"{self.name}: MISSING; {self.without}"


def package(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def python_header() -> str | None:
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    return str(header) if header.is_file() else None


def torch_with_cuda() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    return f"{torch.__version__}, {torch.cuda.get_device_name()}, compute capability {capability}"


def setuptools_for_pyproject() -> str | None:
    """77 is the oldest that reads `license` as this project writes it."""
    version = package("setuptools")
    return version if version is not None and int(version.split(".")[0]) >= 77 else None


def libraries() -> str | None:
    found = [path.name for path in Path("hybatch").glob("_c*.so")]
    return ", ".join(sorted(found)) if len(found) == 2 else None


def needs() -> Iterator[Need]:
    yield Need("torch with CUDA and a device", torch_with_cuda(), "nothing can be tested", is_fatal=True)
    yield Need("pytest", package("pytest"), "nothing can be tested: carry it as a wheel", is_fatal=True)
    yield Need("hypothesis", package("hypothesis"), "no test can be collected: carry it as a wheel", is_fatal=True)
    yield Need("carried libraries", libraries(), "they are built, which takes 80 s or more")
    yield Need("nvcc", shutil.which("nvcc"), "libraries that do not load cannot be built")
    yield Need("ninja", package("ninja") or shutil.which("ninja"), "libraries that do not load cannot be built")
    yield Need("pybind11", package("pybind11"), "libraries that do not load cannot be built")
    yield Need("Python.h", python_header(), "_build_info is left out of a build; tests of its report are skipped")
    yield Need(
        "setuptools for this pyproject.toml", setuptools_for_pyproject(), "none is needed: builds do not read that file"
    )
    yield Need("compute-sanitizer", shutil.which("compute-sanitizer"), "failed tests are not repeated in it")
    yield Need("matplotlib", package("matplotlib"), "benchmarks end without their plot; figures are there")


def main() -> int:
    found = list(needs())
    print(*(need.line() for need in found), sep="\n")
    return int(any(need.is_fatal and need.found is None for need in found))


if __name__ == "__main__":
    sys.exit(main())
