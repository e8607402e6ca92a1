"""Standard output and error that end no work: for a character, a terminal that is gone, or because one is closed."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let writing to stdout and stderr succeed while the block runs, as far as that tells nobody less.

    - A character that the locale's encoding does not have is written as an escape.
    - What goes to a terminal that was closed meanwhile goes nowhere. A pipe without a reader is an error as before.
    - A stream that was closed from the start (`2>&-`) leads nowhere, and no file that is opened later takes its number,
      under which libraries write their warnings.
    """
    before = sys.stdout, sys.stderr
    _occupy_closed_descriptors()
    with _escaping(sys.stdout), _escaping(sys.stderr):
        sys.stdout, sys.stderr = _lasting(sys.stdout, 1), _lasting(sys.stderr, 2)
        try:
            yield
        finally:
            made = [stream for stream in (sys.stdout, sys.stderr) if stream not in before]
            sys.stdout, sys.stderr = before
            for stream in made:
                stream.close()


def _occupy_closed_descriptors() -> None:
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


@contextmanager
def _escaping(stream: TextIO | None) -> Iterator[None]:
    if not isinstance(stream, io.TextIOWrapper) or stream.errors != "strict":
        yield
        return
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors="strict")


def _lasting(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper) or not stream.isatty():
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Terminal(descriptor, "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
    )


class _Terminal(io.FileIO):
    """A terminal, and nothing once it is gone: also to whatever else writes to its descriptor."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        return memoryview(data).nbytes  # type: ignore[arg-type]
