"""The learning rate as a pure function of the step, so that a resumed run needs no state of it."""

from __future__ import annotations

import math
from typing import Literal

ScheduleShape = Literal["linear", "cosine", "constant"]


def learning_rate_factor(step: int, *, total_steps: int, warmup_steps: int, shape: ScheduleShape) -> float:
    """Return what the peak learning rate is multiplied with at `step`, counted from 0 to total_steps - 1.

    The factor rises linearly to 1 over `warmup_steps` steps. From there on it is 1 (constant), or falls so that a step
    after the last would have 0: along a line (linear) or half a cosine wave (cosine).
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if shape == "linear":
        return 1.0 - progress
    if shape == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0
