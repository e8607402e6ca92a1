"""The diffs of docs/extending.md apply to the source, and the commands behind them give what stands below them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from hybatch.models import EncoderConfig, FreshBackboneConfig, build_encoder

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")


class Section(NamedTuple):
    """One way of extending hybatch."""

    title: str
    diff: str
    console: str


def _sections() -> list[Section]:
    found = []
    for part in PAGE.split("\n## ")[1:]:
        diffs, consoles = (re.findall(rf"^```{kind}\n(.*?)^```", part, re.M | re.S) for kind in ("diff", "console"))
        found.append(Section(part.partition("\n")[0], "".join(diffs), "".join(consoles)))
    return found


def _apply(diff: str, root: Path) -> None:
    """Put the added lines where the lines around them stand, which must be one place; whole files from /dev/null."""
    for old, new, body in re.findall(r"^--- (\S+)\n\+\+\+ b/(\S+)\n(.*?)(?=^--- |\Z)", diff, re.M | re.S):
        path = root / new
        if old == "/dev/null":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(line[1:] for line in body.splitlines(keepends=True)[1:]), encoding="utf-8")
            continue
        source = path.read_text(encoding="utf-8")
        for hunk in body.split("@@\n")[1:]:
            lines = hunk.splitlines(keepends=True)
            before, after = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
            assert source.count(before) == 1, (
                f"the lines around a change of {new} stand there {source.count(before)} times"
            )
            source = source.replace(before, after)
        path.write_text(source, encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its recipes, without history, and a small encoder."""
    for folder in ("hybatch", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "_cuda.so"))
    fresh = FreshBackboneConfig(width=16, layers=0, vocabulary_size=400)
    build_encoder(EncoderConfig(fresh=fresh), seed=0, texts=["a text", "another text"]).save(tmp_path / "small")
    return tmp_path


@pytest.mark.parametrize("section", _sections(), ids=lambda section: section.title)
def test_a_section_s_diff_applies_and_its_commands_print_what_stands_below_them(section: Section, copy: Path) -> None:
    assert section.diff
    _apply(section.diff, copy)
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", section.console, re.M)
    assert steps
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    for command, expected in steps:
        words = [sys.executable if word == "python" else word for word in shlex.split(command)]
        done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        for line in expected.splitlines():
            assert line in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    "diff",
    [
        "--- a/hybatch/version.py\n+++ b/hybatch/version.py\n@@\n not a line of it\n+new\n",
        "--- a/hybatch/sampling/kinds.py\n+++ b/hybatch/sampling/kinds.py\n@@\n         ),\n+new\n",
    ],
    ids=["nowhere", "in many places"],
)
def test_a_diff_whose_place_is_not_one_place_does_not_apply(diff: str, copy: Path) -> None:
    with pytest.raises(AssertionError, match="the lines around a change"):
        _apply(diff, copy)
