"""What a command prints cannot cost its work: whatever the locale, and whether or not anybody reads it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybatch.cli import main
from hybatch.streams import ready_streams

# Python opens no stream where the number is closed.
CLOSED = """
import os, sys
os.close(1)
os.close(2)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
OPENED_LATER = """
import sys
from hybatch.streams import ready_streams
ready_streams()
with open(sys.argv[1], "w") as file:
    print("said")
    print("warned", file=sys.stderr)
    file.write(f"{file.fileno() > 2}")
"""


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", rb"\u2013 mod\xe8le"), ("latin-1", b"\\u2013 mod\xe8le")])
def test_what_the_encoding_of_stdout_lacks_is_written_as_an_escape(
    monkeypatch: pytest.MonkeyPatch, encoding: str, shown: bytes
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    ready_streams()
    print("– modèle", flush=True)
    assert written.getvalue() == shown + b"\n"


def test_half_a_surrogate_pair_of_a_path_is_printed_under_utf_8_too(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8"))
    ready_streams()
    print(f"wrote {os.fsdecode(b'caf' + bytes([0xE9]))} –", flush=True)
    assert written.getvalue() == "wrote caf\\udce9 –\n".encode()


def test_streams_that_were_closed_forget_and_no_file_takes_their_numbers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(OPENED_LATER)
    file = tmp_path / "file"
    subprocess.run([sys.executable, "-c", CLOSED, str(script), str(file)], check=True)
    assert file.read_text() == "True"


def test_a_command_whose_stdout_is_closed_prints_its_tables_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["env"]) == 0
    sys.stdout.close()


def test_a_full_disk_behind_stdout_is_an_error_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["--version"]) == 2
    assert capsys.readouterr().err == "error: what is printed: No space left on device\n"
