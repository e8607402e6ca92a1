"""stdout and stderr take whatever a command prints, so that no work is lost to what is said of it."""

from __future__ import annotations

import io
import os
import sys


def ready_streams() -> None:
    """See to it that printing cannot fail for want of a character or of a stream; before anything is printed or opened.

    What the encoding of a stream does not have (in a locale other than UTF-8, a dash or a name in another script; in
    any, half a surrogate pair of a path) is written as an escape, as stderr has it from the start. A stream that was
    closed, as in `hybatch evaluate ... >&-` or under some job managers, forgets what is printed: Python has None in its
    place, and the next file that is opened would take its number.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # For the life of the process.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def forget_stdout() -> None:
    """Nobody can have what is printed from now on: closing stdout must not fail either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
