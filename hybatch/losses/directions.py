"""Both directions of a loss: for pairs of texts of which either may ask for the other.

Shape suffixes: Q queries of this process, N hard-negative slots per query, H embedding width.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from hybatch.losses.protocol import Loss


@runtime_checkable
class Reversible(Protocol):
    """A loss that counts both directions by other means than being computed twice."""

    def in_both_directions(self) -> Loss:
        """The average of this loss, which finds the passage given the query, and of that which finds the query."""


def both_directions(loss: Loss) -> Loss:
    """The average of `loss` with queries and passages as they are and with the two exchanged; collective as it is.

    Hard negatives are passages, and take part in the first of the two only.
    """
    return loss.in_both_directions() if isinstance(loss, Reversible) else _BothDirections(loss)


class _BothDirections:
    def __init__(self, loss: Loss) -> None:
        self._loss = loss

    def __call__(
        self,
        queries_QH: Tensor,
        passages_QH: Tensor,
        negatives_QNH: Tensor | None = None,
        *,
        groups_Q: Tensor,
        negative_groups_QN: Tensor | None = None,
    ) -> Tensor:
        there = self._loss(
            queries_QH, passages_QH, negatives_QNH, groups_Q=groups_Q, negative_groups_QN=negative_groups_QN
        )
        return (there + self._loss(passages_QH, queries_QH, groups_Q=groups_Q)) / 2
