"""The command ends in order whatever becomes of what it prints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hybatch.cli import main


def test_a_command_whose_stdout_is_closed_prints_its_tables_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["env"]) == 0


def test_a_full_disk_behind_stdout_is_an_error_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["env"]) == 2
    assert capsys.readouterr().err == "error: what is printed: No space left on device\n"
