"""Trackers are told what a run measures, and cannot end it."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.training.run.trackers import Trackers


class _Tracker:
    """Fails at the calls whose numbers are given."""

    def __init__(self, name: str, *, fails_at: range, error: Exception) -> None:
        self.name = name
        self.told: list[int] = []
        self.asked: list[int] = []
        self._fails_at, self._error = fails_at, error

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.asked.append(step)
        if step in self._fails_at:
            raise self._error
        self.told.append(step)

    def finish(self) -> None:
        raise self._error


def _of(*trackers: _Tracker) -> tuple[Trackers, list[str]]:
    said: list[str] = []
    accelerator: Any = SimpleNamespace(trackers=list(trackers))
    return Trackers(accelerator, said.append), said


def test_a_tracker_that_misses_some_metrics_gets_the_others_and_says_so_once() -> None:
    lost = _Tracker("mlflow", fails_at=range(3, 5), error=ConnectionError("no route\nto host"))
    other = _Tracker("tensorboard", fails_at=range(0), error=ValueError())
    trackers, said = _of(lost, other)
    for step in range(1, 8):
        trackers.log({"loss": 1.0}, step=step)
    assert lost.told == [1, 2, 5, 6, 7]
    assert other.told == [*range(1, 8)]
    assert said == [
        "training.trackers: mlflow missed metrics (ConnectionError: no route); metrics.jsonl has all of them"
    ]


def test_after_three_failures_in_a_row_a_tracker_is_asked_no_more() -> None:
    gone = _Tracker("wandb", fails_at=range(2, 99), error=RuntimeError("shut down"))
    trackers, said = _of(gone)
    for step in range(1, 10):
        trackers.log({"loss": 1.0}, step=step)
    trackers.finish()
    assert gone.asked == [1, 2, 3, 4]
    assert [line.partition(" (")[0] for line in said] == [
        "training.trackers: wandb missed metrics",
        "training.trackers: wandb is told no more",
        "training.trackers: wandb did not end well",
    ]


def test_a_full_disk_is_no_tracker_s_matter() -> None:
    full = _Tracker("tensorboard", fails_at=range(9), error=OSError(errno.ENOSPC, "No space left on device"))
    trackers, said = _of(full)
    with pytest.raises(OSError, match="No space"):
        trackers.log({"loss": 1.0}, step=1)
    with pytest.raises(OSError, match="No space"):
        trackers.finish()
    assert not said


def test_a_tracker_that_does_not_start_is_named_with_the_option() -> None:
    def init_trackers(project: str, init_kwargs: dict[str, Any]) -> None:
        raise PermissionError("api_key not configured (no-tty)")

    accelerator: Any = SimpleNamespace(log_with=["wandb", "mlflow"], init_trackers=init_trackers)
    message = r"training\.trackers: one of wandb, mlflow cannot be started \(PermissionError: api_key not configured"
    with pytest.raises(UserError, match=message):
        Trackers(accelerator, print).start(first_step=0)
