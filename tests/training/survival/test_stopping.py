"""Signals, and stopping for lack of progress."""

from __future__ import annotations

import math
import os
import signal

import pytest

from hybatch.training.survival.stopping import STOPPING_SIGNALS, BestSoFar, Stopped, StopRequest


@pytest.mark.parametrize("number", STOPPING_SIGNALS)
def test_a_signal_is_noted_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        stop.finish_steps()
        assert stop.signal == 0
        os.kill(os.getpid(), number)
        assert stop.signal == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", STOPPING_SIGNALS)
def test_before_the_first_step_a_signal_ends_the_process_once(number: signal.Signals) -> None:
    with StopRequest():
        with pytest.raises(Stopped, match=f"{number.name} before the first step") as raised:
            os.kill(os.getpid(), number)
        assert raised.value.exit_code == 128 + number
        os.kill(os.getpid(), signal.SIGTERM)  # while the process cleans up


def test_the_end_of_a_terminal_is_nothing_to_a_run_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_interrupt_acts_at_once() -> None:
    with StopRequest() as stop:
        stop.finish_steps()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_patience_counts_measurements_without_a_new_best() -> None:
    best = BestSoFar(larger_is_better=False, patience=2)
    assert [best.update(value, step) for step, value in enumerate([3.0, 2.0, 2.0, 1.5, 1.6])] == [1, 1, 0, 1, 0]
    assert not best.exhausted
    restored = BestSoFar(larger_is_better=False, patience=2)
    restored.restore(best.state())
    assert not restored.update(1.7, 5)
    assert restored.exhausted
    assert (restored.value, restored.step) == (1.5, 3)
    assert restored.reason_to_stop == "no validation since step 3 was better than its 1.5000"


@pytest.mark.parametrize("larger_is_better", [True, False])
def test_a_measurement_that_is_no_number_is_never_the_best(larger_is_better: bool) -> None:
    best = BestSoFar(larger_is_better=larger_is_better, patience=2)
    assert not best.update(math.nan, 1)
    assert best.reason_to_stop == "no validation gave a number"
    assert best.update(0.5, 2)
    assert not best.update(math.nan, 3)
    assert best.value == 0.5
    best.restore({"value": math.nan, "step": 3, "without_progress": 1})
    assert best.update(0.1, 4)
    assert (best.value, best.without_progress) == (0.1, 0)


def test_a_larger_map_is_better() -> None:
    best = BestSoFar(larger_is_better=True)
    assert best.update(0.2, 1)
    assert best.update(0.3, 2)
    assert not best.update(0.1, 3)
    assert not best.exhausted


def test_measurements_before_a_step_neither_are_the_best_nor_use_up_the_patience() -> None:
    best = BestSoFar(larger_is_better=False, patience=1, from_step=5)
    assert [best.update(value, step) for step, value in ((2, 1.0), (4, 1.5), (6, 3.0))] == [False, False, True]
    assert not best.exhausted
    assert (best.value, best.step) == (3.0, 6)
    assert not best.update(3.5, 8)
    assert best.exhausted
