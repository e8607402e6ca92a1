"""What a command prints ends no work, wherever it goes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hybatch.streams import lasting_streams

ROOT = Path(__file__).resolve().parent.parent
ARABIC = "سؤال"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"}


def _command(program: str) -> list[str]:
    whole = f"import os, sys; from hybatch.streams import lasting_streams\nwith lasting_streams():\n    {program}"
    return [sys.executable, "-c", whole]


def _run(program: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(_command(program), env=ENVIRONMENT, timeout=60, **options)


def test_a_character_that_the_encoding_lacks_is_escaped() -> None:
    done = _run(f"print('{ARABIC} é', flush=True)", capture_output=True)
    assert done.returncode == 0
    assert done.stdout == ARABIC.encode("latin-1", "backslashreplace") + b" \xe9\n"


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_a_closed_stream_leads_nowhere_and_no_file_takes_its_number(closed: tuple[int, ...], tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    program = (
        f"opened = open({str(file)!r}, 'wb', 0); print('a'); print('b', file=sys.stderr); os.write(2, b'c'); "
        "os.write(1, b'd'); assert opened.fileno() > 2"
    )

    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    assert _run(program, preexec_fn=close).returncode == 0
    assert file.read_bytes() == b""


def test_a_terminal_that_is_closed_ends_nothing_not_even_what_writes_past_python() -> None:
    master, slave = pty.openpty()
    waiting, written = os.pipe()
    program = (
        "print('shown', flush=True); os.read(0, 1); print('lost', flush=True); print('lost', file=sys.stderr); "
        "os.write(1, b'lost')"
    )
    process = subprocess.Popen(_command(program), env=ENVIRONMENT, stdin=waiting, stdout=slave, stderr=slave)
    os.close(slave)
    assert os.read(master, 100) == b"shown\r\n"
    os.close(master)
    os.write(written, b"x")
    assert process.wait(timeout=60) == 0
    os.close(waiting)
    os.close(written)


def test_the_streams_of_before_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr, sys.stdout.errors  # type: ignore[attr-defined]
    with lasting_streams():
        print(ARABIC)
    assert (sys.stdout, sys.stderr, sys.stdout.errors) == before  # type: ignore[attr-defined]
    assert capsys.readouterr().out == f"{ARABIC}\n"
