"""Prepare the next steps' batches in a thread, so that the training step never waits for text or tokenizer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Iterate over `prepare(step)` for the steps of a range, computed ahead in order by one thread.

    The values are those of a plain loop: `prepare` must be a pure function of the step. An exception in it is raised
    where the loop asks for that step. As a context manager the thread is stopped on leaving.
    """

    def __init__(self, prepare: Callable[[int], T], steps: range, *, depth: int = 4) -> None:
        self._prepare = prepare
        self._steps = steps
        self._ready: queue.Queue[T | BaseException] = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        for step in self._steps:
            try:
                item: T | BaseException = self._prepare(step)
            except BaseException as error:
                item = error
            if not self._offer(item) or isinstance(item, BaseException):
                return

    def _offer(self, item: T | BaseException) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[T]:
        for _ in self._steps:
            item = self._ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stop the thread and wait for it; batches not asked for are dropped."""
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> Prefetcher[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
