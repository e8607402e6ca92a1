"""Requests to stop that arrive as signals, and stopping for lack of progress."""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

# Where several came, to one process or to different ones, the first of these decides the exit code.
STOPPING_SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked the process to end before there was a step to finish.

    Attributes:
        exit_code: 128 + the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} before the first step")
        self.exit_code = 128 + number


class StopRequest:
    """As a context manager, takes SIGINT, SIGTERM, SIGUSR1, which SLURM sends before it preempts a job, and SIGHUP, the
    end of a terminal; that one stays ignored where it is, as by nohup.

    Until `finish_steps` is called there is nothing to save, and a signal raises Stopped where it arrives. From then on
    it is only noted, so that the loop can end its step and save; a second SIGINT raises KeyboardInterrupt.

    Attributes:
        signal: the signal that came, 0 so far.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._finishes_steps = False
        self._before: dict[int, Any] = {}

    def finish_steps(self) -> None:
        """From now on the loop looks at `signal` after every step."""
        self._finishes_steps = True

    def __enter__(self) -> StopRequest:
        for number in STOPPING_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        first = not self.signal
        self.signal = self.signal or number
        # Only once: what ends the process must not itself be interrupted.
        if first and not self._finishes_steps:
            raise Stopped(number)


@dataclass
class BestSoFar:
    """Remembers the best value of a metric and for how many measurements it has not been beaten.

    Attributes:
        larger_is_better: mAP, as against loss.
        patience: measurements without a new best after which to stop; None: never.
        from_step: measurements before this step do not count.
    """

    larger_is_better: bool
    patience: int | None = None
    from_step: int = 0
    value: float | None = None
    step: int = 0
    without_progress: int = 0

    def update(self, value: float, step: int) -> bool:
        """Take in a measurement; return whether it is a new best, which NaN never is."""
        if step < self.from_step:
            return False
        better = not math.isnan(value) and (
            self.value is None
            or math.isnan(self.value)  # as checkpoints of earlier versions may have it
            or (value > self.value if self.larger_is_better else value < self.value)
        )
        if better:
            self.value, self.step, self.without_progress = value, step, 0
        else:
            self.without_progress += 1
        return better

    @property
    def exhausted(self) -> bool:
        return self.patience is not None and self.without_progress >= self.patience

    @property
    def reason_to_stop(self) -> str:
        if self.value is None:
            return "no validation gave a number"
        return f"no validation since step {self.step} was better than its {self.value:.4f}"

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"value": self.value, "step": self.step, "without_progress": self.without_progress}

    def restore(self, state: dict[str, Any]) -> None:
        self.value, self.step, self.without_progress = state["value"], state["step"], state["without_progress"]
