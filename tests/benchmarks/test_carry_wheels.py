"""Wheels are fetched for the machine they are carried to, and none of an earlier call stays beside them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.benchmarks.rehearsal import REPOSITORY


def test_wheels_are_fetched_for_the_target_and_alone(tmp_path: Path) -> None:
    python, folder = tmp_path / "python", tmp_path / "wheels"
    python.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    folder.mkdir()
    (folder / "old-1.0-py3-none-any.whl").touch()
    variables = {"PYTHON": str(python), "TARGET_PYTHON": "3.13", "PACKAGES": "one two", "SOURCES": "three"}
    command = [str(REPOSITORY / "benchmarks" / "carry_wheels.sh"), str(folder)]
    environment = {**os.environ, **variables}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    download, wheel = output.splitlines()[:2]
    assert "download -q --no-deps --only-binary=:all: --implementation cp --python-version 3.13" in download
    assert "--platform manylinux_2_28_x86_64" in download
    assert download.endswith(f"-d {folder} one two")
    assert wheel.endswith(f"wheel -q --no-deps --no-build-isolation -w {folder} three")
    assert not list(folder.iterdir())
