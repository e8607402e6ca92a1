"""How `auto` decides between backends that all serve an op: by the seconds that a small problem takes on each.

What was measured is remembered as long as the process lives; keeping it longer is for those above (`hybatch.backends`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

import torch

BUDGET_SECONDS = 0.05
"""Of one op, warm-up included, on a processor that runs the trial several times in it; two ops have a trial."""
TIE = 0.03
"""Another backend must be faster by this share than the one that comes first: less is noise."""
AHEAD = 0.75
"""It must be faster in this share of the rounds. What else runs on the machine comes and goes between rounds, and falls
on neighbours within one alike, so that who is ahead is told by fewer rounds than how long each takes."""


@dataclass(frozen=True)
class Trial:
    """A small problem of an op on the CPU.

    Attributes:
        op: name of the function that people call.
        problem: its size, in words.
        prepare: makes the problem; what it returns runs it on the backend of a name.
    """

    op: str
    problem: str
    prepare: Callable[[], Callable[[str], object]]


@dataclass(frozen=True)
class Figures:
    """What a trial took.

    Attributes:
        seconds: of each backend, its median round; the one that is preferred comes first.
        clear: whether the fastest was so often enough. Else the machine was too busy to tell.
        measured: when, in UTC, to the minute.
        threads: torch's number of them.
    """

    seconds: dict[str, float]
    clear: bool
    measured: str
    threads: int

    def fastest(self) -> str:
        """The first backend, unless another was faster by more than `TIE`, and not by chance."""
        first, best = next(iter(self.seconds)), _best(self.seconds)
        return best if self.clear else first


def _best(seconds: dict[str, float]) -> str:
    """The first backend, unless another was faster by more than `TIE`."""
    first = next(iter(seconds))
    best = min(seconds, key=seconds.__getitem__)
    return best if seconds[best] < (1 - TIE) * seconds[first] else first


Conditions = tuple[str, tuple[str, ...], int]
_remembered: dict[Conditions, Figures] = {}


def remembered(trial: Trial, backends: Sequence[str]) -> Figures | None:
    """Figures of these backends that this process has, with as many threads as now."""
    return _remembered.get(_conditions(trial, backends))


def remember(trial: Trial, backends: Sequence[str], figures: Figures) -> None:
    """Let figures that were measured elsewhere decide from now on."""
    _remembered[_conditions(trial, backends)] = figures


def figures_of(trial: Trial, backends: Sequence[str]) -> Figures:
    """Figures that are remembered, or measured now."""
    found = remembered(trial, backends)
    if found is None:
        found = measure(trial, backends)
        remember(trial, backends, found)
    return found


def measure(trial: Trial, backends: Sequence[str], clock: Callable[[], float] = time.perf_counter) -> Figures:
    """Time the backends in turn as often as `BUDGET_SECONDS` allows; the first round counts if it is the only one.

    A processor so slow that two more rounds do not fit has one more while there is time.
    """
    rounds: list[dict[str, float]] = []
    started = clock()
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        run = trial.prepare()
        while not rounds or _has_time(clock() - started, len(rounds)):
            rounds.append({})
            for backend in backends:
                begun = clock()
                run(backend)
                rounds[-1][backend] = clock() - begun
    # The first round loads code, starts threads, touches memory.
    counted = rounds[1:] or rounds
    seconds = {backend: median(one[backend] for one in counted) for backend in backends}
    return Figures(
        seconds=seconds,
        clear=_is_ahead(_best(seconds), counted),
        measured=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        threads=torch.get_num_threads(),
    )


def _is_ahead(best: str, rounds: Sequence[dict[str, float]]) -> bool:
    """Whether the backend was faster than the one that comes first often enough, or is that one."""
    first = next(iter(rounds[0]))
    if best == first:
        return True
    return len(rounds) > 1 and sum(one[best] < one[first] for one in rounds) >= AHEAD * len(rounds)


def _has_time(elapsed: float, rounds: int) -> bool:
    if rounds < 3:
        return elapsed <= BUDGET_SECONDS
    return elapsed * (rounds + 1) / rounds <= BUDGET_SECONDS


def _conditions(trial: Trial, backends: Sequence[str]) -> Conditions:
    return trial.op, tuple(backends), torch.get_num_threads()
