"""Signals reach the child, and the child has ended when the interruption is told."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from study.children import Children, Interrupted

STDERR = 2  # any descriptor that is open

# Says that it is there, notes the signal that ends it, and takes its time to do so.
_NOTES_ITS_SIGNAL = """
import pathlib, signal, sys, time
def note(number, frame):
    time.sleep(0.3)
    pathlib.Path(sys.argv[1]).write_text(str(number))
    sys.exit(0)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, note)
pathlib.Path(sys.argv[1]).write_text("ready")
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("sent", "received"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGTERM)],
)
def test_a_signal_is_passed_on_and_told_when_the_child_has_ended(
    sent: signal.Signals, received: signal.Signals, tmp_path: Path
) -> None:
    note = tmp_path / "note"

    def send_when_ready() -> None:
        while not note.exists() or note.read_text() != "ready":
            time.sleep(0.01)
        os.kill(os.getpid(), sent)

    before = signal.getsignal(sent)
    with Children() as children:
        sender = threading.Thread(target=send_when_ready)
        sender.start()
        with pytest.raises(Interrupted, match=f"stopped by {sent.name}") as raised:
            children.run([sys.executable, "-c", _NOTES_ITS_SIGNAL, str(note)], holding=STDERR)
        sender.join()
        assert note.read_text() == str(int(received))
        assert raised.value.exit_code == 128 + sent
        with pytest.raises(Interrupted):
            children.run(["true"], holding=STDERR)
    assert signal.getsignal(sent) is before


def test_the_exit_code_of_a_child_comes_back() -> None:
    with Children() as children:
        assert children.run(["true"], holding=STDERR) == 0
        assert children.run(["sh", "-c", "exit 3"], holding=STDERR) == 3
        assert children.run(["sh", "-c", "kill -9 $$"], holding=STDERR) == -9


def test_a_pause_ends_when_a_signal_comes() -> None:
    with Children() as children:
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        started = time.monotonic()
        with pytest.raises(Interrupted):
            children.pause(60)
        assert time.monotonic() - started < 30
        timer.join()
