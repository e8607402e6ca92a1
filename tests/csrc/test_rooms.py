"""Which of the compiled code's rooms may know which: common/ what both ops stand on, and neither op the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
OPS = sorted(folder.name for folder in CSRC.iterdir() if (folder / "contract.h").exists())
TORCH_FILES = {"registration.cpp", "registration.cu", "tensor_checks.h", "torch_stream.h", "torch_threads.h"}


def sources() -> list[Path]:
    return [path for path in sorted(CSRC.rglob("*")) if path.suffix in (".h", ".cuh", ".cpp", ".cu")]


def included(source: Path) -> Iterator[str]:
    """What a file includes, its own rooms' files by their path from csrc/."""
    for quoted, bracketed in re.findall(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', source.read_text(), re.MULTILINE):
        beside = (source.parent / quoted).resolve()
        inside = quoted and beside.is_file() and beside.is_relative_to(CSRC)
        yield str(beside.relative_to(CSRC)) if inside else quoted or bracketed


def test_both_ops_are_found() -> None:
    assert OPS == ["contrastive", "ranking"]


@pytest.mark.parametrize("room", ["common", *OPS])
def test_a_room_includes_nothing_of_an_op_but_its_own(room: str) -> None:
    others = {op for op in OPS if op != room}
    files = [path for path in sources() if path.relative_to(CSRC).parts[0] == room]
    assert files
    strangers = [(str(path), name) for path in files for name in included(path) if name.split("/")[0] in others]
    assert strangers == []


def test_only_registrations_and_their_helpers_include_torch_and_nothing_includes_aten() -> None:
    with_torch = {path.name for path in sources() if any(name.startswith("torch/") for name in included(path))}
    assert with_torch <= TORCH_FILES
    unstable = re.compile(r"(ATen|c10|torch)/(?!csrc/stable/|headeronly/)")
    assert [name for path in sources() for name in included(path) if unstable.match(name)] == []


def test_every_file_that_an_include_names_is_there() -> None:
    """Also those of kernels that only some machines compile."""
    missing = [
        (str(path), name) for path in sources()
        for name in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)
        if name != "build_config.h" and not ((path.parent / name).is_file() or (CSRC / name).is_file())
    ]  # fmt: skip
    assert missing == []
