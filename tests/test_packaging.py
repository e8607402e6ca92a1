"""What `pip install` makes of the source, with and without a torch, a compiler and nvcc at hand."""

from __future__ import annotations

import json
import os
import platform
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pybind11
import pytest
import setuptools

ROOT = Path(__file__).parents[1]
SITE_PACKAGES = Path(sysconfig.get_paths()["platlib"])
RANKS = "import torch, hybatch.ops as o; one = torch.eye(2); none = torch.zeros(2, dtype=torch.int32); "
RANKS += "print(o.rank_counts(one, one, none, torch.arange(2), torch.arange(3), 1).backend)"

_NINJA_FILES = """
import json, runpy, sys
from pathlib import Path
from types import SimpleNamespace
import setuptools

setuptools.setup = lambda **_: None
names = runpy.run_path("setup.py")
module = names["extensions"].__globals__
module["find_torch"] = lambda: module["Torch"](Path("torch"), "2.13.0", has_cuda=False)
files = {}
for system in ("linux", "darwin"):
    module["sys"] = SimpleNamespace(platform=system, stderr=sys.stderr)
    build = module["BuildWithNinja"](setuptools.Distribution({"ext_modules": module["extensions"]()}))
    build.ensure_finalized()
    files[system] = build.ninja_file(Path("build"))
print(json.dumps(files))
"""


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """setup.py's functions, with a torch without CUDA and an nvcc, and nothing asked for."""
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    for variable in ("FORCE_CUDA", "FORCE_CPU", "HYBATCH_NO_EXTENSION", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    names = runpy.run_path(str(ROOT / "setup.py"))
    module: dict[str, Any] = names["extensions"].__globals__
    module["find_nvcc"] = lambda: "nvcc"
    module["find_torch"] = lambda: SimpleNamespace(version="2.13.0+cpu", is_old=False, has_cuda=False)
    return module


def _libraries(setup: dict[str, Any]) -> set[str]:
    return {extension.name.removeprefix("hybatch._") for extension in setup["extensions"]()}


def test_cuda_code_is_compiled_only_for_a_torch_with_cuda_or_when_it_is_asked_for(
    setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _libraries(setup) == {"cpu", "build_info"}
    monkeypatch.setenv("FORCE_CUDA", "1")
    assert _libraries(setup) == {"cpu", "build_info", "cuda"}
    monkeypatch.delenv("FORCE_CUDA")
    setup["find_torch"] = lambda: SimpleNamespace(version="2.13.0", is_old=False, has_cuda=True)
    assert _libraries(setup) == {"cpu", "build_info", "cuda"}
    monkeypatch.setenv("FORCE_CPU", "1")
    assert _libraries(setup) == {"cpu", "build_info"}


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ({"find_cxx": lambda: None}, "no C\\+\\+ compiler"),
        ({"find_torch": lambda: None}, "no torch"),
        ({"find_torch": lambda: SimpleNamespace(version="2.10.1", is_old=True, has_cuda=False)}, "2.10.1 is older"),
    ],
    ids=["compiler", "torch", "new torch"],
)
def test_without_what_a_build_needs_nothing_is_compiled_and_cuda_cannot_be_forced(
    setup: dict[str, Any], missing: dict[str, Callable[[], Any]], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.update(missing)
    assert _libraries(setup) == set()
    monkeypatch.setenv("FORCE_CUDA", "1")
    with pytest.raises(SystemExit, match=reason):
        setup["extensions"]()


def test_a_forced_cuda_build_without_nvcc_fails(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    setup["find_nvcc"] = lambda: None
    monkeypatch.setenv("FORCE_CUDA", "1")
    with pytest.raises(SystemExit, match="there is no nvcc"):
        setup["extensions"]()


# Tiles, tiles of codes, ranking, loss; AVX-512 has no one set of instructions for codes.
X86_FILES = {"avx2.cpp": 4, "avx512.cpp": 3, "avx512vnni.cpp": 1, "avx512vpopcntdq.cpp": 1}


@pytest.mark.parametrize(
    ("machine", "files"),
    [
        ("x86_64", X86_FILES),
        ("AMD64", X86_FILES),
        ("aarch64", {"neon.cpp": 4}),
        ("arm64", {"neon.cpp": 4}),
        ("riscv64", {}),
    ],
)
def test_a_machine_compiles_its_own_instruction_sets_and_no_others(
    setup: dict[str, Any], machine: str, files: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    compiled = Counter(Path(source).name for source in setup["cpu_sources"]())
    special = {name: count for name, count in compiled.items() if name.startswith(("avx", "neon"))}
    assert special == files
    assert compiled["portable.cpp"] == 4
    assert setup["instruction_set_flags"]().keys() == files.keys()


@pytest.fixture(scope="module")
def commands() -> dict[str, dict[str, str]]:
    """System -> rule of build.ninja -> its command."""
    # In a process of its own: here others may have imported Python's distutils before setuptools brought its own.
    told: dict[str, str] = json.loads(subprocess.check_output([sys.executable, "-c", _NINJA_FILES], cwd=ROOT))
    return {
        system: {rule.split()[1]: one for rule, one in pairwise(text.splitlines()) if rule.startswith("rule ")}
        for system, text in told.items()
    }


def test_each_systems_linker_is_told_that_ops_leave_no_symbol_undefined_and_the_python_module_pythons_own(
    commands: dict[str, dict[str, str]],
) -> None:
    for system, asked in (("linux", (True, False)), ("darwin", (False, True))):
        refused = "-Wl,-z,defs" in commands[system]["link_cpu"]
        assert (refused, "-undefined dynamic_lookup" in commands[system]["link_build_info"]) == asked


def test_pybind11_is_read_before_the_copy_that_torch_brings(commands: dict[str, dict[str, str]]) -> None:
    words = commands["linux"]["cxx"].split()
    included = [word for flag, word in pairwise(words) if flag == "-isystem"]
    assert included.index(pybind11.get_include()) < included.index("torch/include")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_source_distribution_installs_in_pips_isolation_with_the_torch_that_is_there_and_without_one(
    tmp_path: Path,
) -> None:
    archive = _source_distribution(tmp_path)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    packages = Path(
        subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[0])"], text=True)[:-1]
    )

    _install(python, archive)
    assert not list((packages / "hybatch").glob("*.so"))
    # The other packages that it needs are this environment's.
    (packages / "others.pth").write_text(str(SITE_PACKAGES))
    assert _run(python, "-c", RANKS).strip() == "torch"
    shown = _run(python, "-m", "hybatch", "env").replace("│", " ")  # which lines of a cell have at their ends
    assert "an installed torch; with that at hand, install again" in " ".join(shown.split())

    (packages / "torch").symlink_to(SITE_PACKAGES / "torch")
    _install(python, archive)
    assert _run(python, "-c", RANKS).strip() == "cpu"


def _source_distribution(folder: Path) -> Path:
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    subprocess.run([sys.executable, "setup.py", "-q", "sdist", "-d", str(folder)], cwd=folder / "source", check=True)
    return next(folder.glob("*.tar.gz"))


def _install(python: Path, archive: Path) -> None:
    command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--force-reinstall", archive]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment())
    if "No matching distribution found for setuptools" in done.stdout + done.stderr:
        pytest.skip("no package index can be reached: pip's isolation has nothing to build with")
    assert done.returncode == 0, done.stdout + done.stderr


def _run(python: Path, *arguments: str) -> str:
    return subprocess.check_output([python, *arguments], cwd=python.parent, text=True, env=_environment())


def _environment() -> dict[str, str]:
    ours = ("FORCE_CUDA", "PYTHONPATH", "HYBATCH_BACKEND", "HYBATCH_NO_EXTENSION")
    return {name: value for name, value in os.environ.items() if name not in ours}
