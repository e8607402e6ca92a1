"""Several processes write one checkpoint, in the background where their strategy can.

A write has two parts. First every process writes its share of weights and optimizer into a hidden folder; once all
shares are there, the main process seals the folder. In the background both parts run in threads: the loop only tells
the writer, at the end of a step, that all shares are there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hybatch.atomic import sync_tree
from hybatch.errors import UserError
from hybatch.processes import fail_together, rank, run_on_main
from hybatch.training.checkpoints.checkpoint import Description
from hybatch.training.checkpoints.folder import CheckpointFolder
from hybatch.training.strategy.protocol import Strategy


class _Work:
    """A function that runs in a thread; its UserError is kept for `join`."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._function()
        except UserError as error:
            self.problem = str(error)
        except Exception as error:
            # Whatever it is, the loop must hear of it: a thread that dies silently leaves a run without checkpoints.
            self.problem = f"cannot write a checkpoint: {type(error).__name__}: {error}"

    @property
    def succeeded(self) -> bool:
        return not self._thread.is_alive() and self.problem is None

    def join(self) -> str | None:
        self._thread.join()
        return self.problem


@dataclass
class _Flight:
    """A write that goes on in the background."""

    partial: Path
    description: Description
    share: _Work
    seal: _Work | None = None
    sealing: bool = False


class CheckpointWriter:
    """Writes one checkpoint at a time; every method but `share_is_missing` and `close` is collective."""

    def __init__(self, folder: CheckpointFolder, strategy: Strategy, *, background: bool) -> None:
        self._folder = folder
        self._strategy = strategy
        self._background = background
        self._flight: _Flight | None = None

    def write(self, description: Description, *, wait: bool) -> None:
        """Write a checkpoint, after the one that is still being written.

        Args:
            wait: return when it is on the disk; else, where the strategy can, when it is copied to host memory.

        Raises:
            UserError: on every process: this checkpoint or the one before could not be written; those that are there
                are untouched.
        """
        self.wait()
        partial = run_on_main(lambda: self._folder.begin(description.step))
        save = self._strategy.snapshot() if self._background and not wait else None
        if save is not None:
            share = _Work(lambda: self._write_share(save, partial, description.step))
            self._flight = _Flight(partial, description, share)
            return
        problem = None
        try:
            self._write_share(self._strategy.save, partial, description.step)
        except UserError as error:
            problem = str(error)
        self._all_or_nothing(problem, partial)
        run_on_main(lambda: self._folder.finish(partial, description))

    @property
    def share_is_missing(self) -> bool:
        """Whether this process has a share in the background that is not, or never will be, on the disk."""
        return self._flight is not None and not self._flight.share.succeeded

    def seal(self) -> None:
        """Let the main process seal the checkpoint in the background; call it when no process misses its share."""
        flight = self._flight
        if flight is None or flight.sealing:
            return
        flight.sealing = True
        if rank() == 0:
            flight.seal = _Work(lambda: self._folder.finish(flight.partial, flight.description))

    def wait(self) -> None:
        """Return when the checkpoint in the background is on the disk.

        Raises:
            UserError: on every process: it could not be written.
        """
        flight, self._flight = self._flight, None
        if flight is None:
            return
        self._all_or_nothing(flight.share.join(), flight.partial)
        if flight.sealing:
            self._all_or_nothing(flight.seal.join() if flight.seal is not None else None, flight.partial)
        else:
            run_on_main(lambda: self._folder.finish(flight.partial, flight.description))

    def close(self) -> None:
        """Wait for this process's own threads, whatever became of the others; an unsealed checkpoint is dropped."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        for work in (flight.share, flight.seal):
            if work is not None:
                work.join()
        if rank() == 0:
            self._folder.abandon(flight.partial)

    def _write_share(self, save: Callable[[Path], None], partial: Path, step: int) -> None:
        try:
            save(partial)
            sync_tree(partial)
        except OSError as error:
            raise UserError(self._folder.failure(step, error)) from error

    def _all_or_nothing(self, problem: str | None, partial: Path) -> None:
        try:
            fail_together(problem)
        except UserError:
            if rank() == 0:
                self._folder.abandon(partial)
            raise
