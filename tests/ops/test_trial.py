"""How `auto` decides by figures: on a clock that only the trial moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from hybatch.ops import trial as trials
from hybatch.ops.backend import why_missing
from hybatch.ops.contrastive.trials import CONTRASTIVE_TERMS, INFO_NCE
from hybatch.ops.trial import BUDGET_SECONDS, Figures, Trial, figures_of, measure, remember, remembered


class Machine:
    """A clock that only runs of backends move: by the seconds given for each, run by run, and then by the last."""

    def __init__(self, seconds: dict[str, Sequence[float]]) -> None:
        self._seconds = seconds
        self._now = 0.0
        self.runs = dict.fromkeys(seconds, 0)

    def clock(self) -> float:
        return self._now

    def trial(self) -> Trial:
        return Trial("op", "a problem", lambda: self._run)

    def _run(self, backend: str) -> None:
        taken = self._seconds[backend]
        self._now += taken[min(self.runs[backend], len(taken) - 1)]
        self.runs[backend] += 1

    def measure(self) -> Figures:
        return measure(self.trial(), tuple(self._seconds), self.clock)


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_remembered", {})


def test_the_fastest_wins_and_the_first_round_counts_for_nothing() -> None:
    figures = Machine({"cpu": (0.001, 0.003), "torch": (0.009, 0.002)}).measure()
    assert figures.seconds == pytest.approx({"cpu": 0.003, "torch": 0.002})
    assert figures.fastest() == "torch"


def test_the_first_stays_where_another_is_hardly_faster() -> None:
    assert Machine({"cpu": (0.002,), "torch": (0.00196,)}).measure().fastest() == "cpu"
    assert Machine({"cpu": (0.00196,), "torch": (0.002,)}).measure().fastest() == "cpu"
    assert Machine({"cpu": (0.002,), "torch": (0.0019,)}).measure().fastest() == "torch"


def test_one_lucky_round_decides_nothing() -> None:
    lucky = Machine({"cpu": (0.004,), "torch": (0.005, 0.001, 0.005)}).measure()
    assert lucky.clear
    assert lucky.fastest() == "cpu"


def test_who_is_ahead_is_told_within_rounds_that_something_else_makes_slow() -> None:
    noise = (1, 1, 2, 1.3, 1.7)
    figures = Machine({"cpu": [0.004 * slow for slow in noise], "torch": [0.0036 * slow for slow in noise]}).measure()
    assert figures.clear
    assert figures.fastest() == "torch"


def test_a_backend_that_is_ahead_only_as_often_as_not_is_not_taken() -> None:
    figures = Machine({"cpu": (0.004,), "torch": (0.005, 0.001) * 9}).measure()
    assert figures.seconds["torch"] < figures.seconds["cpu"]
    assert not figures.clear
    assert figures.fastest() == "cpu"


@pytest.mark.parametrize("backends", [("cpu", "torch"), ("cpu", "blas", "torch")])
@pytest.mark.parametrize("seconds_of_round", [0.0002, 0.0054, 0.008, 0.016])
def test_rounds_fill_the_budget_and_do_not_exceed_it(seconds_of_round: float, backends: tuple[str, ...]) -> None:
    machine = Machine(dict.fromkeys(backends, (seconds_of_round / len(backends),)))
    assert machine.measure().clear
    assert machine.clock() <= BUDGET_SECONDS * 1.000001
    assert machine.clock() + seconds_of_round > BUDGET_SECONDS * 0.999999


def test_a_slow_processor_is_given_one_more_round_while_there_is_time_and_no_other() -> None:
    slow = Machine({"cpu": (0.012,), "torch": (0.011,)})
    assert slow.measure().fastest() == "torch"
    assert slow.runs["cpu"] == 3
    very_slow = Machine({"cpu": (0.2,), "torch": (0.1,)})
    assert very_slow.measure().fastest() == "cpu"
    assert very_slow.runs["cpu"] == 1


def test_figures_are_measured_once_and_anew_for_other_threads_or_backends(
    monkeypatch: pytest.MonkeyPatch, num_threads: Callable[[int], None]
) -> None:
    asked = []

    def count(trial: Trial, backends: Sequence[str]) -> Figures:
        asked.append((tuple(backends), torch.get_num_threads()))
        return Figures(dict.fromkeys(backends, 1.0), True, "2026-01-01 00:00", torch.get_num_threads())

    monkeypatch.setattr(trials, "measure", count)
    trial = Machine({"cpu": (1.0,)}).trial()
    for threads in (1, 2, 1):
        num_threads(threads)
        for backends in (("cpu", "torch"), ("cpu", "other")):
            assert figures_of(trial, backends).threads == threads
    assert len(asked) == len(set(asked)) == 4


def test_what_was_measured_elsewhere_is_believed() -> None:
    figures = Figures({"cpu": 2.0, "torch": 1.0}, True, "2026-01-01 00:00", 1)
    trial = Machine({"cpu": (1.0,)}).trial()
    assert remembered(trial, ("cpu", "torch")) is None
    remember(trial, ("cpu", "torch"), figures)
    assert figures_of(trial, ("cpu", "torch")) is figures


@pytest.mark.parametrize("trial", [INFO_NCE, CONTRASTIVE_TERMS], ids=lambda trial: trial.op)
def test_a_trial_runs_on_every_backend_and_leaves_the_generator_of_random_numbers_alone(trial: Trial) -> None:
    backends = [backend for backend in ("cpu", "blas", "torch") if why_missing(backend, "contrastive") is None]
    before = torch.get_rng_state()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        figures = measure(trial, backends)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(figures.seconds) == backends
    assert all(seconds > 0 for seconds in figures.seconds.values())
