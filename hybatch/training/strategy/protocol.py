"""What the training loop asks of an engine.

Engines average gradients over processes, and nothing here scales them: every process hands over the loss of its own
rows, already scaled so that the average is the exact gradient (`hybatch.losses.reduction`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from hybatch.training.strategy.text_chunk import TextChunk


class Strategy(Protocol):
    """Weights, optimizer and the exchange of gradients. All methods are collective: every process calls them alike.

    Attributes:
        name: none, ddp, zero1, zero2, zero3 or fsdp2.
        encoder: what is trained; its forward pass may be called directly where no gradient is wanted.
        equal_chunks: whether every process must encode equally many chunks, because forward passes (sharded weights) or
            the backward passes of single chunks (sharded gradients) are collectives themselves.
    """

    name: str
    encoder: nn.Module
    equal_chunks: bool

    def encode(self, chunks: Sequence[TextChunk]) -> Tensor:
        """Embeddings of the chunks' texts, in order, with a graph that `backward` may go through."""

    def encode_without_graph(self, chunks: Sequence[TextChunk]) -> Tensor:
        """The same embeddings; call it under `torch.no_grad()`."""

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        """Surround one `encode` and its `backward`; `last` marks the last of a step."""

    def backward(self, scalar: Tensor) -> None:
        """Add the gradients of `scalar`, averaged over processes, to what this step has."""

    def apply_gradients(self, *, learning_rate: float, max_norm: float | None) -> float:
        """Clip by the norm over all parameters, step the optimizer, clear the gradients; return the norm before.

        A norm that is not finite changes neither weights nor optimizer.
        """

    def save(self, directory: Path) -> None:
        """Write weights and optimizer into `directory`, which exists and which all processes share."""

    def snapshot(self) -> Callable[[Path], None] | None:
        """Copy weights and optimizer to host memory.

        Returns:
            a function that writes what `save` would have written now, without talking to other processes; None where
            the engine has no such copy.
        """

    def load(self, directory: Path) -> None:
        """Take up what `save` wrote: bitwise by the same strategy and number of processes, else by parameter name.

        Raises:
            UserError: the folder holds weights of other names or shapes.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """The whole encoder's weights, on the CPU of the main process; empty elsewhere."""
