"""Libraries that were carried along are used where they load; what cannot be built does not cost those that can."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.benchmarks.rehearsal import REPOSITORY

# Stands for Python: as `python -` says whether the libraries load, as setup.py fails over _build_info.
PYTHON = """#!/bin/sh
if [ "$1" = - ]; then
    [ "$(cat hybatch/_cpu.so hybatch/_cuda.so 2>/dev/null)" = "goodgood" ]
    exit
fi
echo "setup.py in $PWD, pyproject.toml: $(ls pyproject.toml 2>/dev/null)"
mkdir -p build/temp.here
for name in _cpu _cuda; do echo "build $PWD/build/lib/hybatch/$name.so: link $name.o"; done >build/temp.here/build.ninja
exit 1
"""
NINJA = """#!/bin/sh
shift 4
for library; do mkdir -p "$(dirname "$library")"; printf good >"$library"; done
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout whose Python, ninja and nvcc are stand-ins."""
    for folder in ("benchmarks", "hybatch", "tools"):
        (tmp_path / folder).mkdir()
    shutil.copy(REPOSITORY / "benchmarks" / "load_or_build.sh", tmp_path / "benchmarks")
    for name, text in (("python", PYTHON), ("ninja", NINJA), ("nvcc", "#!/bin/sh\n")):
        (tmp_path / "tools" / name).write_text(text, encoding="utf-8")
        (tmp_path / "tools" / name).chmod(0o755)
    (tmp_path / "pyproject.toml").touch()
    return tmp_path


def run(tree: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    tools = {"PATH": f"{tree / 'tools'}:{os.environ['PATH']}", "PYTHON": str(tree / "tools" / "python")}
    script = tree / "benchmarks" / "load_or_build.sh"
    return subprocess.run([script], env={**os.environ, **tools, **variables}, capture_output=True, text=True)


def carry(tree: Path, content: str) -> None:
    for name in ("_cpu.so", "_cuda.so"):
        (tree / "hybatch" / name).write_text(content, encoding="utf-8")


def test_carried_libraries_that_load_are_not_built_anew(tree: Path) -> None:
    carry(tree, "good")
    found = run(tree)
    assert found.returncode == 0
    assert "setup.py" not in found.stdout
    assert "setup.py" in run(tree, REBUILD="1").stdout


def test_without_python_h_the_libraries_that_need_no_python_are_built_and_pyproject_is_not_read(tree: Path) -> None:
    carry(tree, "bad")
    found = run(tree)
    assert found.returncode == 0, found
    assert "pyproject.toml: \n" in found.stdout
    assert (tree / "hybatch" / "_cuda.so").read_text(encoding="utf-8") == "good"


def test_without_nvcc_nothing_is_built_and_the_step_fails(tree: Path) -> None:
    (tree / "tools" / "nvcc").unlink()
    found = run(tree, PATH=f"{tree / 'tools'}:/usr/bin:/bin", CUDA_HOME="", CUDACXX="")
    assert found.returncode != 0
    assert "no nvcc" in found.stdout


def test_tests_of_the_ops_are_collected_beside_libraries_from_another_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = runpy.run_path(str(REPOSITORY / "tests" / "ops" / "instruction_sets.py"))
    assert found["INSTRUCTION_SETS"] == ["portable"]
