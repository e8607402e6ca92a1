"""Steps whose loss or gradients are not finite numbers: one such update would make every weight useless."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from hybatch.corpus import ParallelCorpus
from hybatch.sampling import GlobalBatch

_EXAMPLES_NAMED = 8


class SkippedSteps:
    """Counts the steps that were left out, and says when to end the run.

    A strategy applies no gradients whose norm is not finite (see `Strategy.apply_gradients`). A loss that is not
    finite has no finite gradients either: infinity and NaN run through the softmax into every one of them.

    Attributes:
        in_a_row: steps left out since the last that was not.
    """

    def __init__(self, policy: Literal["stop", "skip"], *, limit: int) -> None:
        self._policy = policy
        self._limit = limit
        self.in_a_row = 0

    def take(self, loss: float, grad_norm: float) -> bool:
        """Take in a step; return whether its update was left out."""
        is_left_out = not (math.isfinite(loss) and math.isfinite(grad_norm))
        self.in_a_row = self.in_a_row + 1 if is_left_out else 0
        return is_left_out

    @property
    def too_many(self) -> bool:
        return self.in_a_row > 0 if self._policy == "stop" else self.in_a_row >= self._limit

    def reason(
        self, names: Mapping[str, Any], corpus: ParallelCorpus, batch: GlobalBatch, loss: float, grad_norm: float
    ) -> str:
        """Why the run ends, with the batch: its names (step, kind, dataset, language) and the ids of some examples."""
        ids = corpus.ids(batch.examples[:_EXAMPLES_NAMED])
        times = f", step {self.in_a_row} of its kind in a row" if self._policy == "skip" else ""
        return (
            f"step {names['step']} ({names['kind']}, {names['dataset']}, {names['language']}): loss {loss}, gradient "
            f"norm {grad_norm}{times}; the update was not applied. Examples {', '.join(ids)}"
            f"{' ...' if len(batch.examples) > _EXAMPLES_NAMED else ''}. Lower training.learning_rate or raise "
            "loss.temperature, or go past single bad batches with training.on_nonfinite skip. Checkpoints of earlier "
            "steps are intact"
        )
