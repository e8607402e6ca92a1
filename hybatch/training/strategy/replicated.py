"""Every process holds the whole model: one process alone, or DistributedDataParallel."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hybatch.processes import rank, world_size
from hybatch.training.strategy.chunk_encoder import ChunkEncoder
from hybatch.training.strategy.clipped_step import clipped_step
from hybatch.training.strategy.consolidated import Origin, fitted, frozen_parameters, learning_parameters
from hybatch.training.strategy.sources import names_of_groups, read_consolidated
from hybatch.training.strategy.tensors import save_tensors
from hybatch.training.strategy.text_chunk import TextChunk
from hybatch.training.strategy.token_rows import TokenRows

# torch 2.13 renamed the option and deprecates the name that 2.11 knows.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


class ReplicatedStrategy:
    """Plain for one process, DistributedDataParallel for several; see `Strategy`."""

    equal_chunks = False

    def __init__(
        self, encoder: nn.Module, optimizer: torch.optim.Optimizer, *, autocast_dtype: torch.dtype | None = None
    ) -> None:
        self.name = "none" if world_size() == 1 else "ddp"
        self.encoder = encoder
        self.optimizer = optimizer
        table = getattr(encoder, "token_table", None)
        self._token_rows = TokenRows(table) if table is not None and table.weight.requires_grad else None
        self._plain = ChunkEncoder(encoder, autocast_dtype, self._token_rows)
        self._module: nn.Module = self._plain
        if world_size() > 1:
            options: dict[str, Any] = {_SYNC_BUFFERS: False}
            self._module = DistributedDataParallel(self._plain, gradient_as_bucket_view=True, **options)

    def encode(self, chunks: Sequence[TextChunk]) -> Tensor:
        return self._module([chunk.features for chunk in chunks], [chunk.seed for chunk in chunks])

    def encode_without_graph(self, chunks: Sequence[TextChunk]) -> Tensor:
        return self._plain([chunk.features for chunk in chunks], [chunk.seed for chunk in chunks])

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        if self._token_rows is not None:
            self._token_rows.is_last = last
        if last or not isinstance(self._module, DistributedDataParallel):
            return nullcontext()
        return self._module.no_sync()

    def backward(self, scalar: Tensor) -> None:
        scalar.backward()

    def apply_gradients(self, *, learning_rate: float, max_norm: float | None) -> float:
        return clipped_step(self.encoder, self.optimizer, learning_rate=learning_rate, max_norm=max_norm)

    def save(self, directory: Path) -> None:
        if rank() == 0:
            self._write(directory, self._saved(), self.optimizer.state_dict())

    def snapshot(self) -> Callable[[Path], None] | None:
        if rank() > 0:
            return lambda directory: None
        model, optimizer = _on_host(self._saved()), _on_host(self.optimizer.state_dict())
        return lambda directory: self._write(directory, model, optimizer)

    def load(self, directory: Path) -> None:
        if Origin.read(directory).strategy in ("none", "ddp"):
            model, optimizer = (
                torch.load(directory / f"{name}.pt", map_location="cpu", weights_only=True)
                for name in ("model", "optimizer")
            )
            # Earlier versions wrote the frozen ones too.
            self.encoder.load_state_dict({**frozen_parameters(self.encoder), **model})
            self.optimizer.load_state_dict(optimizer)
        else:
            self._take_up(directory)

    def state_dict(self) -> dict[str, Tensor]:
        return _on_host(self.encoder.state_dict()) if rank() == 0 else {}

    def _saved(self) -> dict[str, Tensor]:
        frozen = frozen_parameters(self.encoder)
        return {name: tensor for name, tensor in self.encoder.state_dict().items() if name not in frozen}

    def _write(self, directory: Path, model: dict[str, Any], optimizer: dict[str, Any]) -> None:
        save_tensors(directory / "model.pt", model)
        save_tensors(directory / "optimizer.pt", optimizer)
        Origin(self.name, world_size()).write(directory)

    @torch.no_grad()
    def _take_up(self, directory: Path) -> None:
        """Weights and moments by name, from a strategy that shards them."""
        learning = learning_parameters(self.encoder)
        shapes = {name: parameter.shape for name, parameter in learning.items()}
        found = fitted(read_consolidated(directory, names_of_groups(learning, self.optimizer)), shapes, directory)
        for name, parameter in learning.items():
            parameter.copy_(found.weights[name])
            if name in found.moments:
                moments = {key: value.to(parameter.device) for key, value in found.moments[name].items()}
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(found.step, dtype=torch.float32, device=parameter.device),
                    **moments,
                }


def _on_host(state: Any) -> Any:
    """A deep copy of a state dict with every tensor on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _on_host(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_on_host(value) for value in state]
    return copy.copy(state)
