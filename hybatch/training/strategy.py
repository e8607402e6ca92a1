"""How a step's gradients come together over processes: the seam for engines that also shard.

The training loop knows only the `Strategy` protocol. An engine that owns optimizer, clipping or weights (DeepSpeed,
FSDP) becomes another class here and another name in `choose_strategy`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hybatch.errors import UserError
from hybatch.losses.gather import world_size
from hybatch.training.batches import Features, TextChunk
from hybatch.training.checkpoint import save_tensors

# torch 2.13 renamed the option and deprecates the name that 2.11 knows.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


class Strategy(Protocol):
    """What the loop asks of an engine. All methods are collective: every process calls them alike."""

    name: str
    encoder: nn.Module

    def encode(self, chunks: Sequence[TextChunk]) -> Tensor:
        """Embeddings of the chunks' texts, in order, with a graph that `backward` may go through."""

    def encode_without_graph(self, chunks: Sequence[TextChunk]) -> Tensor:
        """The same embeddings; call it under `torch.no_grad()`."""

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        """Surround one `encode` and its `backward`; gradients meet the other processes' in the `last` one only."""

    def backward(self, scalar: Tensor) -> None:
        """Add the gradients of `scalar`, averaged over processes, to what this step has."""

    def apply_gradients(self, *, learning_rate: float, max_norm: float | None) -> float:
        """Clip by the norm over all parameters, step the optimizer, clear the gradients; return the norm before."""

    def save(self, directory: Path) -> None:
        """Write weights and optimizer into `directory`, which exists on the main process."""

    def load(self, directory: Path) -> None:
        """Take up what `save` wrote."""


class _ChunkEncoder(nn.Module):
    """One forward over any number of chunks, so that an engine's wrapper sees one forward a backward."""

    def __init__(self, encoder: nn.Module, autocast_dtype: torch.dtype | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.autocast_dtype = autocast_dtype

    def forward(self, features: list[Features], seeds: list[int]) -> Tensor:
        embeddings = []
        for chunk, seed in zip(features, seeds, strict=True):
            device = next(iter(chunk.values())).device.type
            # Both passes of gradient caching, and a resumed run, draw the same dropout. torch.manual_seed would do, but
            # on a CPU it writes down a stack trace for every device type that is not there, at a millisecond a call.
            (torch.cuda if device == "cuda" else torch.default_generator).manual_seed(seed)
            with torch.autocast(device, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
                embeddings.append(self.encoder(chunk).float())
        return torch.cat(embeddings)


class ReplicatedStrategy:
    """Every process holds the whole model: plain for one process, DistributedDataParallel for several."""

    def __init__(
        self, encoder: nn.Module, optimizer: torch.optim.Optimizer, *, autocast_dtype: torch.dtype | None = None
    ) -> None:
        self.name = "none" if world_size() == 1 else "ddp"
        self.encoder = encoder
        self.optimizer = optimizer
        self._plain = _ChunkEncoder(encoder, autocast_dtype)
        self._module: nn.Module = self._plain
        if world_size() > 1:
            options: dict[str, Any] = {_SYNC_BUFFERS: False}
            self._module = DistributedDataParallel(self._plain, gradient_as_bucket_view=True, **options)

    def encode(self, chunks: Sequence[TextChunk]) -> Tensor:
        return self._module([chunk.features for chunk in chunks], [chunk.seed for chunk in chunks])

    def encode_without_graph(self, chunks: Sequence[TextChunk]) -> Tensor:
        return self._plain([chunk.features for chunk in chunks], [chunk.seed for chunk in chunks])

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        if last or not isinstance(self._module, DistributedDataParallel):
            return nullcontext()
        return self._module.no_sync()

    def backward(self, scalar: Tensor) -> None:
        scalar.backward()

    def apply_gradients(self, *, learning_rate: float, max_norm: float | None) -> float:
        norm = self._clip(max_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _clip(self, max_norm: float | None) -> float:
        parameters = [parameter for parameter in self.encoder.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if max_norm is not None and norm > max_norm:
            torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
        return float(norm)

    def save(self, directory: Path) -> None:
        for name, state in (("model", self.encoder.state_dict()), ("optimizer", self.optimizer.state_dict())):
            save_tensors(directory / f"{name}.pt", state)

    def load(self, directory: Path) -> None:
        parts: Iterable[tuple[str, Any]] = (("model", self.encoder), ("optimizer", self.optimizer))
        for name, target in parts:
            state = torch.load(directory / f"{name}.pt", map_location="cpu", weights_only=True)
            target.load_state_dict(state)


_LATER = ("zero1", "zero2", "zero3", "fsdp2")


def check_strategy(name: str, *, engine: str) -> None:
    """Check that training.strategy is one that exists and the one that the launcher prepared.

    Args:
        name: training.strategy.
        engine: accelerate's name of what it prepared: NO, MULTI_CPU, MULTI_GPU, DEEPSPEED, FSDP ...

    Raises:
        UserError: they do not go together.
    """
    if name in _LATER:
        raise UserError(f"training.strategy {name}: this version trains with none or ddp only")
    if name not in ("auto", "none", "ddp"):
        raise UserError(f"training.strategy {name!r}: choose one of auto, none, ddp")
    if engine not in ("NO", "MULTI_CPU", "MULTI_GPU"):
        raise UserError(
            f"accelerate was told to use {engine}, which this version does not train with; "
            "launch with an accelerate configuration for one process or for plain multi-CPU or multi-GPU"
        )
    if name == "none" and world_size() > 1:
        raise UserError(f"training.strategy none is for one process, but {world_size()} run: use auto or ddp")
    if name == "ddp" and world_size() == 1:
        raise UserError("training.strategy ddp needs several processes, but one runs: use auto or none")
