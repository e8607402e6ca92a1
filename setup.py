"""Builds the compiled ops; everything declarative stands in pyproject.toml.

Three libraries come to lie in the package: `_cpu.so` (schemas and CPU kernels), `_cuda.so` (CUDA kernels, where nvcc
is) and `_build_info` (a Python module that says how the others were built). The first two use torch's stable ABI and no
Python, so that one build serves every Python and every torch from 2.11 on.

They are built against the torch of the environment that hybatch is installed into, found there also from inside pip's
isolated build environment. Without a torch or a C++ compiler the package is pure Python; `hybatch env` then says what
was missing. CUDA is built where nvcc is there and that torch is a CUDA build.

Environment: CXX, CXXFLAGS and LDFLAGS as usual; CUDA_HOME, CUDACXX name the CUDA compiler; FORCE_CUDA=1 builds CUDA
beside any torch and fails without nvcc; FORCE_CPU=1 leaves CUDA out; HYBATCH_NO_EXTENSION=1 leaves out all three;
MAX_JOBS limits parallel compilation.
"""

import importlib.util
import os
import platform
import runpy
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
OLDEST_TORCH = (2, 11)  # the oldest whose stable ABI has all that is used
TORCH_TARGET_VERSION = "0x{:02x}{:02x}000000000000".format(*OLDEST_TORCH)
CUDA_ARCHITECTURES = {"sm_80": "compute_80", "sm_90a": "compute_90a", "compute_80": "compute_80"}  # code: arch

# A user's flags come first, so that none of them can change the arithmetic.
CXX_FLAGS = ["-std=c++20", "-O3", "-g0", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-fno-fast-math",
             "-ffp-contract=off", "-fno-math-errno", f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}"]  # fmt: skip
# Sources that one machine alone can compile, each with the flags that it needs; everything else is portable.
INSTRUCTION_SETS: dict[str, dict[str, list[str]]] = {
    "x86_64": {
        "avx2.cpp": ["-mavx2", "-mfma", "-mpopcnt"],
        "avx512.cpp": ["-mavx512f", "-mavx2", "-mfma", "-mpopcnt", "-mprefer-vector-width=512"],
        "avx512vnni.cpp": ["-mavx512f", "-mavx512vnni"],
        "avx512vpopcntdq.cpp": ["-mavx512f", "-mavx512vpopcntdq"],
    },
    "aarch64": {"neon.cpp": []},
}
NVCC_FLAGS = ["-std=c++20", "-O3", "-DUSE_CUDA", f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}",
              "-Xcompiler=-fPIC,-fvisibility=hidden", "-Xptxas", "-v",
              *(f"-gencode=arch={arch},code={code}" for code, arch in CUDA_ARCHITECTURES.items())]  # fmt: skip


def on(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


def find_cxx() -> list[str] | None:
    named = os.environ.get("CXX")
    if named:
        return named.split()
    found = next(filter(None, map(shutil.which, ("g++", "c++", "clang++"))), None)
    return [found] if found else None


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME")
    if home and (Path(home) / "bin" / "nvcc").exists():
        return str(Path(home) / "bin" / "nvcc")
    return os.environ.get("CUDACXX") or shutil.which("nvcc")


def instruction_set_flags() -> dict[str, list[str]]:
    """Of this machine, by the file's name."""
    machine = platform.machine().lower()
    return INSTRUCTION_SETS.get({"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine), {})


def cpu_sources() -> list[str]:
    elsewhere = {name for files in INSTRUCTION_SETS.values() for name in files} - set(instruction_set_flags())
    sources = [*ROOT.glob("csrc/*/registration.cpp"), *ROOT.glob("csrc/*/cpu/**/*.cpp")]
    return sorted(str(s.relative_to(ROOT)) for s in sources if s.name not in elsewhere)


def cuda_sources() -> list[str]:
    return sorted(str(s.relative_to(ROOT)) for s in ROOT.glob("csrc/*/cuda/**/*.cu"))


@dataclass(frozen=True)
class Torch:
    """An installed torch, known by its files: importing it takes seconds, and pip's build isolation hides it."""

    root: Path
    version: str
    has_cuda: bool

    @property
    def is_old(self) -> bool:
        return tuple(int(part) for part in self.version.split(".")[:2]) < OLDEST_TORCH

    @property
    def includes(self) -> list[str]:
        return [str(self.root / "include"), str(self.root / "include" / "torch" / "csrc" / "api" / "include")]


def find_torch() -> Torch | None:
    """The torch that this process imports, else the one of the environment whose Python this is."""
    for root in torch_folders():
        if (root / "version.py").is_file():
            facts = runpy.run_path(str(root / "version.py"))
            return Torch(root, facts["__version__"], facts["cuda"] is not None)
    return None


def torch_folders() -> Iterator[Path]:
    found = importlib.util.find_spec("torch")
    if found is not None and found.origin is not None:
        yield Path(found.origin).parent
    paths = sysconfig.get_paths()
    for folder in (paths["platlib"], paths["purelib"], *site.getsitepackages(), site.getusersitepackages()):
        yield Path(folder) / "torch"


def why_not_compiled() -> str | None:
    """What keeps this machine from building the compiled ops. Only its tools decide, never the presence of a GPU."""
    if on("HYBATCH_NO_EXTENSION"):
        return "HYBATCH_NO_EXTENSION is set"
    if find_cxx() is None:
        return "no C++ compiler found (CXX, g++, c++, clang++)"
    torch = find_torch()
    if torch is None:
        return "there is no torch in this environment to build against"
    if torch.is_old:
        return f"torch {torch.version} is older than {'.'.join(map(str, OLDEST_TORCH))}"
    return None


def builds_cuda() -> bool:
    if on("FORCE_CPU") or not cuda_sources():
        return False
    if on("FORCE_CUDA"):
        if find_nvcc() is None:
            raise SystemExit("FORCE_CUDA=1, but there is no nvcc: set CUDA_HOME or CUDACXX")
        return True
    torch = find_torch()
    return find_nvcc() is not None and torch is not None and torch.has_cuda


def extensions() -> list[Extension]:
    reason = why_not_compiled()
    if reason is not None:
        if on("FORCE_CUDA"):
            raise SystemExit(f"FORCE_CUDA=1, but nothing can be compiled: {reason}")
        print(f"hybatch: {reason}: installing without compiled ops", file=sys.stderr)
        return []
    libraries = [
        Extension("hybatch._cpu", cpu_sources()),
        Extension("hybatch._build_info", ["csrc/build_info.cpp", "csrc/common/cpu/instruction_set.cpp"]),
    ]
    if builds_cuda():
        libraries.append(Extension("hybatch._cuda", cuda_sources()))
    return libraries


def ninja_command() -> list[str]:
    try:
        import ninja

        return [str(Path(ninja.BIN_DIR) / "ninja")]
    except ImportError:
        found = shutil.which("ninja")
        if found is None:
            raise SystemExit("hybatch needs ninja to build its compiled ops: pip install ninja") from None
        return [found]


def pybind11_includes() -> list[str]:
    try:
        import pybind11
    except ImportError:
        raise SystemExit("hybatch needs pybind11 to build its compiled ops: pip install pybind11") from None
    return [pybind11.get_include(), sysconfig.get_paths()["include"]]


def quoted(words: list[str]) -> str:
    """A command line for build.ninja; none of our words holds a quote."""
    return " ".join(f"'{word}'" if " " in word else word for word in words).replace("$", "$$")


class BuildWithNinja(build_ext):
    """Compiles through ninja: in parallel, and only what changed. torch's own BuildExtension cannot build CUDA code
    beside a CPU-only torch."""

    def get_ext_filename(self, fullname: str) -> str:
        if fullname.rpartition(".")[2] in ("_cpu", "_cuda"):
            return fullname.replace(".", os.sep) + ".so"
        return super().get_ext_filename(fullname)

    def build_extensions(self) -> None:
        folder = Path(self.build_temp).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self.write_build_config(folder)
        (folder / "build.ninja").write_text(self.ninja_file(folder))
        jobs = ["-j", os.environ["MAX_JOBS"]] if "MAX_JOBS" in os.environ else []
        if subprocess.run([*ninja_command(), "-C", str(folder), *jobs]).returncode != 0:
            raise SystemExit("hybatch: building the compiled ops failed; FORCE_CPU=1 leaves CUDA out")

    def write_build_config(self, folder: Path) -> None:
        cuda = any(extension.name == "hybatch._cuda" for extension in self.extensions)
        version = ""
        if cuda:
            version = subprocess.check_output([find_nvcc() or "nvcc", "--version"], text=True).splitlines()[-2]
        lines = {
            "kFlags": quoted([*os.environ.get("CXXFLAGS", "").split(), *CXX_FLAGS]),
            "kCudaCompiler": version,
            "kCudaArchitectures": " ".join(CUDA_ARCHITECTURES) if cuda else "",
            "kTorchTargetVersion": TORCH_TARGET_VERSION,
        }
        text = "".join(f'constexpr char {name}[] = R"({value})";\n' for name, value in lines.items())
        path = folder / "build_config.h"
        if not path.exists() or path.read_text() != text:  # an unchanged file spares a compilation
            path.write_text("#pragma once\n" + text)

    def ninja_file(self, folder: Path) -> str:
        torch_found = find_torch()
        assert torch_found is not None  # or there would be no extension to build
        # torch's own copy of pybind11 comes after it: that of 2.11 refuses whoever keeps to the stable ABI.
        includes = [*pybind11_includes(), *torch_found.includes]
        include_flags = [f"-I{ROOT / 'csrc'}", f"-I{folder}", *(flag for i in includes for flag in ("-isystem", i))]
        cxx = [*(find_cxx() or []), *os.environ.get("CXXFLAGS", "").split(), *CXX_FLAGS, *include_flags]
        nvcc = [find_nvcc() or "nvcc", *NVCC_FLAGS, *include_flags]
        torch = [f"-L{torch_found.root / 'lib'}", "-ltorch_cpu", "-lc10"]
        link = [*(find_cxx() or []), "-shared", *os.environ.get("LDFLAGS", "").split()]
        # ELF's linkers let undefined symbols pass unless told otherwise, Apple's refuses them unless told otherwise.
        apple = sys.platform == "darwin"
        none_undefined, python_undefined = ([], ["-undefined", "dynamic_lookup"]) if apple else (["-Wl,-z,defs"], [])
        compile_one = "-MD -MF $out.d -c $in -o $out\n  description = compile $in\n  depfile = $out.d\n  deps = gcc"
        lines = [
            "ninja_required_version = 1.8",
            f"rule cxx\n  command = {quoted(cxx)} $flags {compile_one}",
            f"rule nvcc\n  command = {quoted(nvcc)} {compile_one}",
            f"rule link_cpu\n  command = {quoted(link)} -o $out $in {quoted([*torch, *none_undefined])}",
            f"rule link_cuda\n  command = {quoted(nvcc[:1])} -shared -cudart static -o $out $in {quoted(torch)}",
            f"rule link_build_info\n  command = {quoted([*link, *python_undefined])} -o $out $in",
        ]
        for extension in self.extensions:
            lines += self.ninja_edges(extension, folder)
        return "\n".join(lines) + "\n"

    def ninja_edges(self, extension: Extension, folder: Path) -> list[str]:
        name = extension.name.rpartition(".")[2]
        edges, objects, flags = [], [], instruction_set_flags()
        for source in map(Path, extension.sources):
            compiled = folder / name / source.with_suffix(".o")
            rule = "nvcc" if source.suffix == ".cu" else "cxx"
            edges.append(f"build {escaped(compiled)}: {rule} {escaped(ROOT / source)}")
            edges.append(f"  flags = {' '.join(flags.get(source.name, []))}")
            objects.append(escaped(compiled))
        library = Path(self.get_ext_fullpath(extension.name)).resolve()
        library.parent.mkdir(parents=True, exist_ok=True)
        edges.append(f"build {escaped(library)}: link{name} {' '.join(objects)}")
        return edges


def escaped(path: Path) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildWithNinja})
