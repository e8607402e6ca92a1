"""The trackers of accelerate that a run tells its metrics, none of which can end it: metrics.jsonl has all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from accelerate import Accelerator

from hybatch.atomic import DISK_ERRORS
from hybatch.errors import UserError

_MOST_FAILURES = 3


class Trackers:
    """What the network or a server does to a tracker is said once; after three failures in a row it is told no more.

    A full disk ends the run as everywhere.
    """

    def __init__(self, accelerator: Accelerator, say: Callable[[str], None]) -> None:
        self._accelerator = accelerator
        self._say = say
        self._failures: Counter[int] = Counter()

    def start(self, *, first_step: int) -> None:
        """Begin with the step after `first_step`; what tensorboard was told of later ones is dropped.

        Raises:
            UserError: a tracker cannot be started.
        """
        resumed = {"tensorboard": {"purge_step": first_step + 1}} if first_step else {}
        try:
            self._accelerator.init_trackers("hybatch", init_kwargs=resumed)
        except Exception as error:  # each of the trackers' libraries raises its own
            if _is_disk(error):
                raise
            raise UserError(
                f"training.trackers: one of {', '.join(self._names())} cannot be started ({_summary(error)}): log in, "
                "or set what it needs in the environment, or take it out of the list"
            ) from error

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        for number, tracker in enumerate(self._accelerator.trackers):
            if self._failures[number] >= _MOST_FAILURES:
                continue
            try:
                tracker.log(values, step=step)
            except Exception as error:
                self._failed(number, error)
            else:
                self._failures[number] = 0

    def finish(self) -> None:
        for tracker in self._accelerator.trackers:
            try:
                tracker.finish()
            except Exception as error:
                if _is_disk(error):
                    raise
                self._say(f"training.trackers: {tracker.name} did not end well ({_summary(error)})")

    def _failed(self, number: int, error: Exception) -> None:
        if _is_disk(error):
            raise error
        self._failures[number] += 1
        what = {1: "missed metrics", _MOST_FAILURES: "is told no more"}.get(self._failures[number])
        if what:
            name = self._accelerator.trackers[number].name
            self._say(f"training.trackers: {name} {what} ({_summary(error)}); metrics.jsonl has all of them")

    def _names(self) -> list[str]:
        return [str(getattr(name, "value", name)) for name in self._accelerator.log_with]


def _is_disk(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


def _summary(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
