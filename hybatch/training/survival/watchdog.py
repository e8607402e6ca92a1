"""No process waits for ever for one that died, hangs or gave up: all end within a bounded time and say why.

Gradients and decisions travel through collectives, in which a process waits for the slowest one. A process that was
killed breaks its connections, but one that was stopped or whose machine vanished just stays silent. So every process
also sends beats through a small key-value store of its own (held by the main process, apart from the collectives):
the main process watches the beats of all, the others that of the main one. Whoever ends early leaves a note in the
store, so that the others end with the same cause and exit code instead of with a broken connection.

Time is counted in a process's own beats, not by the clock: a job that is suspended as a whole and wakes up hours later
goes on.
"""

from __future__ import annotations

import datetime
import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

import torch.distributed as dist

from hybatch.atomic import DISK_ERRORS
from hybatch.errors import UserError
from hybatch.processes import rank, run_on_main, world_size
from hybatch.training.survival.stopping import Stopped

# EX_TEMPFAIL of sysexits.h: nothing is wrong with the input, the same command goes on from the newest checkpoint.
RESTART = 75
_BEAT = 1.0
_NOTE = "note"
# How long a process may take to end by itself, with its own message, once the job has failed.
_GRACE_BEATS = 5


class JobFailed(Exception):
    """Another process of the run died, hangs or gave up.

    Attributes:
        exit_code: what this process is to end with.
    """

    def __init__(self, cause: str, exit_code: int) -> None:
        super().__init__(cause)
        self.exit_code = exit_code


class Watchdog:
    """As a context manager around a run: watches the other processes and this one's own progress; collective.

    When the run fails elsewhere, this process is given a few seconds to notice by itself and is ended then.
    """

    def __init__(self, *, silence_seconds: float, step_minutes: float) -> None:
        """Set the bounds.

        Args:
            silence_seconds: a process without a beat for so long is lost.
            step_minutes: a process that does not call `progress` for so long, once it has called it, hangs.
        """
        self._silence_beats = max(1, round(silence_seconds / _BEAT))
        self._step_beats = max(1, round(60 * step_minutes / _BEAT))
        self._step_minutes = step_minutes
        self._idle_beats = 0
        self._step: int | None = None
        self._ended = threading.Event()
        self._failure: tuple[str, int] | None = None
        self._failed = threading.Event()
        self._store: dist.TCPStore | None = None
        self._exchanges = 0

    def progress(self, step: int) -> None:
        """Say that work goes on: `step` was reached. From the first call on the time between two calls is bounded."""
        self._step = step
        self._idle_beats = 0

    def __enter__(self) -> Watchdog:
        if world_size() > 1:
            self._store = _open_store()
            threading.Thread(target=self._exchange, name="heartbeat", daemon=True).start()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._store is not None:
            self._leave_early(error)
        elif self._store is not None:
            # Nobody may miss the beats of one that ended well, and the store goes with the main process.
            dist.barrier()
            self._ended.set()
            dist.barrier()
        self._ended.set()

    def _leave_early(self, error: BaseException) -> None:
        """End for the cause that another process left, if there is one; else leave this error as the cause.

        Raises:
            JobFailed: the error comes from another process's end.
        """
        broken = _is_broken_connection(error)
        if broken:
            # The dead process is known once its beats are missed, or at once where it left a note.
            self._failed.wait(_BEAT * (self._silence_beats + 3))
        elif isinstance(error, Stopped):
            self._failed.wait(2 * _BEAT)
        if self._failure is not None and (broken or isinstance(error, Stopped)):
            self._linger()
            raise JobFailed(*self._failure) from error
        if broken:
            raise JobFailed(f"lost the connection to another process: {_first_line(error)}", RESTART) from error
        self._leave_note(f"process {rank()} ended: {_summary(error)}", _exit_code_of(error))
        self._linger()

    def _linger(self) -> None:
        """The main process holds the store: it stays until the others may have read the note."""
        if rank() == 0:
            time.sleep(2.5 * _BEAT)
        self._ended.set()

    def _leave_note(self, cause: str, exit_code: int) -> None:
        note = json.dumps([cause, exit_code])
        assert self._store is not None
        # The first note is the cause, later ones are its consequences. A store that hangs must not hang this process.
        _within(_BEAT, lambda: self._store.compare_set(_NOTE, "", note))  # type: ignore[union-attr]

    def _exchange(self) -> None:
        """Send beats and read those of the others; runs in a thread of its own, since a store can block for ever."""
        store = self._store
        assert store is not None
        watched = range(1, world_size()) if rank() == 0 else [0]
        seen, missed = dict.fromkeys(watched, ""), dict.fromkeys(watched, 0)
        beats = 0
        while not self._ended.wait(_BEAT):
            beats += 1
            try:
                store.set(f"beat/{rank()}", str(beats))
                for other in watched:
                    key = f"beat/{other}"
                    beat = store.get(key).decode() if store.check([key]) else ""
                    missed[other] = missed[other] + 1 if beat == seen[other] else 0
                    seen[other] = beat
                note = store.get(_NOTE).decode() if store.check([_NOTE]) else ""
            except (dist.DistError, RuntimeError):
                self._fail("lost the connection to process 0: it died, or its machine is gone", RESTART)
                return
            self._exchanges += 1
            if note:
                self._fail(*json.loads(note))
            for other in watched:
                if missed[other] >= self._silence_beats:
                    cause = _silent(other, self._silence_beats)
                    self._leave_note(cause, RESTART)
                    self._fail(cause, RESTART)

    def _watch(self) -> None:
        """Count beats without exchange and without progress; end this process when the job has failed."""
        exchanges = unanswered = since_failure = 0
        while not self._ended.wait(_BEAT):
            unanswered = unanswered + 1 if exchanges == self._exchanges else 0
            exchanges = self._exchanges
            self._idle_beats += 1
            if self._store is not None and unanswered >= self._silence_beats + 1:
                self._fail(_silent(0, self._silence_beats), RESTART)
            if self._step is not None and self._idle_beats >= self._step_beats:
                self._hangs()
            if self._failed.is_set():
                since_failure += 1
                if since_failure >= _GRACE_BEATS:
                    self._end_process()

    def _hangs(self) -> None:
        cause = (
            f"process {rank()} made no progress for {self._step_minutes:g} minutes after step {self._step} "
            "(training.timeout_minutes): it hangs, or waits for one that does; the stacks of its threads are above"
        )
        if not self._failed.is_set():
            faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
            if self._store is not None:
                self._leave_note(cause, RESTART)
        self._fail(cause, RESTART)

    def _fail(self, cause: str, exit_code: int) -> None:
        if self._failure is None:
            self._failure = (cause, exit_code)
            self._failed.set()

    def _end_process(self) -> None:
        """The main thread is stuck in a collective that nobody will complete: no exception reaches it."""
        assert self._failure is not None
        cause, exit_code = self._failure
        report_failure(cause, exit_code)
        os._exit(exit_code)


def report_failure(cause: str, exit_code: int) -> None:
    """Print why the run ends and, where it helps, that the same command goes on; the last line of this process."""
    restart = "; the same command goes on from the newest checkpoint" if exit_code == RESTART else ""
    sys.stdout.flush()
    print(f"error (process {rank()}): {cause}{restart}", file=sys.stderr, flush=True)


def _open_store() -> dist.TCPStore:
    """A store that the main process serves on a free port of the machine that MASTER_ADDR names."""
    timeout = datetime.timedelta(seconds=30)
    host = os.environ.get("MASTER_ADDR", "localhost")
    served: list[dist.TCPStore] = []

    def serve() -> int:
        served.append(dist.TCPStore(host, 0, None, True, timeout=timeout, wait_for_workers=False))
        return served[0].port

    port = run_on_main(serve)
    return served[0] if served else dist.TCPStore(host, port, None, False, timeout=timeout, wait_for_workers=False)


def _silent(process: int, beats: int) -> str:
    seconds = beats * _BEAT
    return f"process {process} gave no sign of life for {seconds:g} s: it died or was stopped, or its machine is gone"


def _is_broken_connection(error: BaseException) -> bool:
    """Whether a collective failed: gloo raises plain RuntimeErrors that name it, NCCL and the stores a DistError."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = ("gloo", "NCCL", "Connection closed", "Connection reset", "pair closure", "Timed out")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def _exit_code_of(error: BaseException) -> int:
    """That of the other processes: only what a restart can mend asks for one."""
    if isinstance(error, Stopped):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    is_disk = isinstance(error, OSError) and error.errno in DISK_ERRORS
    return 2 if isinstance(error, UserError) or is_disk else 1


def _summary(error: BaseException) -> str:
    name = "" if isinstance(error, UserError | Stopped) else f"{type(error).__name__}: "
    return f"{name}{error}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _within(seconds: float, function: Callable[[], object]) -> None:
    """Give `function` a thread and some time."""

    def call() -> None:
        try:
            function()
        except (dist.DistError, RuntimeError):
            return  # the store is gone, and with it everybody who could have read the note

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
