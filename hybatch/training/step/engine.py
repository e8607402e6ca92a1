"""One optimiser step: loss, gradients, clipping, update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hybatch.losses import Loss, LossTerms
from hybatch.training.step.batches import LocalBatch, equally_many_chunks
from hybatch.training.step.caching import cached_backward, plain_backward
from hybatch.training.strategy import Strategy


@dataclass(frozen=True)
class StepResult:
    """What a step gives.

    Attributes:
        terms: this process's loss, on its device, and what it is made of.
        grad_norm: norm of the global batch's gradient over all parameters, before clipping; the same on every process.
        learning_rate: what the update used.
    """

    terms: LossTerms
    grad_norm: float
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class StepEngine:
    """Everything that a step needs besides the batch.

    Attributes:
        cached: whether the graph of only one chunk is held at a time.
        agrees_on_chunks: whether the processes first agree on the number of chunks, which follows from the lengths of
            their texts.
        learning_rate_at: learning rate of a step, counted from 0.
        max_grad_norm: gradients of a greater norm are scaled down to it; None for no clipping.
    """

    strategy: Strategy
    loss: Loss
    cached: bool
    learning_rate_at: Callable[[int], float]
    max_grad_norm: float | None
    agrees_on_chunks: bool = False

    def step(self, local: LocalBatch) -> StepResult:
        if self.agrees_on_chunks:
            local = equally_many_chunks(local)
        backward = cached_backward if self.cached else plain_backward
        terms = backward(self.strategy, self.loss, local)
        learning_rate = self.learning_rate_at(local.batch.step)
        norm = self.strategy.apply_gradients(learning_rate=learning_rate, max_norm=self.max_grad_norm)
        return StepResult(terms=terms, grad_norm=norm, learning_rate=learning_rate)
