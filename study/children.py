"""One child process at a time, which gets the signals that this process gets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

# A closed terminal is no word that the training knows: it stops as at TERM.
_SIGNALS = {
    signal.SIGINT: signal.SIGINT,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,
    signal.SIGUSR1: signal.SIGUSR1,
}


class Interrupted(Exception):
    """A signal came, and the child has ended.

    Attributes:
        exit_code: 128 + the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Children:
    """As a context manager takes SIGINT, SIGTERM, SIGHUP and SIGUSR1 and passes them on to the child, if there is one.

    Every method raises Interrupted once a signal has come, as soon as no child is running.
    """

    def __init__(self) -> None:
        self._signal = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Children:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str], *, holding: int) -> int:
        """Run a command to its end, with this process' output as its own; return its exit code, -n for signal n.

        Args:
            holding: a file descriptor that the child keeps open, even if this process is killed.
        """
        self.check()
        environment = dict(os.environ)
        if not sys.stderr.isatty():
            environment.setdefault("TQDM_MININTERVAL", "30")  # the progress bar goes into a file
        # A process group of its own: a terminal's ^C must reach the child once, and through here.
        self._child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env=environment, pass_fds=(holding,), process_group=0
        )
        if self._signal:  # it came before the child could be told
            self._tell(self._signal)
        exit_code = self._child.wait()
        self._child = None
        self.check()
        return exit_code

    def pause(self, seconds: float) -> None:
        """Wait, not much longer than until a signal comes."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.check()
            time.sleep(0.1)

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self._signal:
            raise Interrupted(self._signal)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number
        self._tell(number)

    def _tell(self, number: int) -> None:
        if self._child is not None:
            self._child.send_signal(_SIGNALS[signal.Signals(number)])
