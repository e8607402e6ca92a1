"""Kill a process, or let a system call fail, at every call that a write makes to the system."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import hybatch.atomic
from hybatch.leftovers import recover_once

KILLED = 137
_CALLS = ("open", "close", "fsync", "mkdir", "replace", "rename", "unlink", "rmdir", "chmod", "listdir")


def killed_before_every_call(write: Callable[[], object], *, exchange: bool = True, stride: int = 1) -> Iterator[int]:
    """Call `write` in a fresh process that is killed before its n-th call to the system, for every n; yields n.

    Args:
        exchange: whether two names can be exchanged in one step.
        stride: try every so many calls only.
    """
    for number in itertools.count(0, stride):
        child = os.fork()
        if child == 0:
            status = 1
            recover_once.cache_clear()  # as in a process that is new
            with contextlib.suppress(BaseException), _before_each(number, lambda: os._exit(KILLED), exchange):
                write()
                status = 0
            os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, KILLED), f"call {number}: exit {code}"
        yield number
        if code == 0:
            return


def failing_at_every_call(write: Callable[[], object], *, exchange: bool = True) -> Iterator[OSError | None]:
    """Call `write` with its n-th call to the system failing as on a full disk, for every n; yields what it raised."""
    reached: list[bool] = []

    def fail() -> None:
        reached.append(True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for number in itertools.count():
        reached.clear()
        raised = None
        with _before_each(number, fail, exchange, without=("close",)):
            try:
                write()
            except OSError as error:
                raised = error
        yield raised
        if not reached:
            return


@contextlib.contextmanager
def _before_each(number: int, act: Callable[[], None], exchange: bool, without: tuple[str, ...] = ()) -> Iterator[None]:
    """Within it, `act` is called before call `number`, counted from 0."""
    calls = itertools.count()

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if next(calls) == number:
                act()
            return real(*args, **options)

        return call

    real_exchange = hybatch.atomic._exchange if exchange else lambda one, other: False
    with contextlib.ExitStack() as stack:
        for name in _CALLS:
            if name not in without:
                real = (lambda descriptor: None) if name == "fsync" else getattr(os, name)
                stack.enter_context(mock.patch.object(os, name, counted(real)))
        stack.enter_context(mock.patch.object(fcntl, "flock", counted(fcntl.flock)))
        stack.enter_context(mock.patch.object(hybatch.atomic, "_exchange", counted(real_exchange)))
        yield
