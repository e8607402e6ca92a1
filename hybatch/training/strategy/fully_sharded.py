"""FSDP2: torch's `fully_shard` over all processes, on GPUs and on the CPU.

Each layer of the backbone is a unit that is gathered for its forward and its backward pass and given back between
them; what is left (embeddings, head) is the last unit. Every backward pass scatters its gradients at once, so that no
process ever holds a whole gradient; with gradient caching that is once a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from hybatch.processes import rank, world_size
from hybatch.training.strategy.chunk_encoder import ChunkEncoder
from hybatch.training.strategy.clipped_step import clipped_step, whole_tensor
from hybatch.training.strategy.consolidated import MOMENTS, Origin, fitted, learning_parameters
from hybatch.training.strategy.planted_code import check_shards
from hybatch.training.strategy.sources import SHARDS_FOLDER, names_of_groups, read_consolidated
from hybatch.training.strategy.text_chunk import TextChunk


class FullyShardedStrategy:
    """Weights, gradients and moments cut over the processes; see `Strategy`."""

    name = "fsdp2"
    equal_chunks = True

    def __init__(
        self,
        encoder: nn.Module,
        build_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        *,
        reshard_after_forward: bool = True,
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        """Shard `encoder`, which must be whole and the same on every process.

        Args:
            build_optimizer: makes the optimizer of the sharded encoder.
            reshard_after_forward: give a layer's weights back between forward and backward pass (less memory), or keep
                them (less communication).
        """
        device = next(encoder.parameters()).device.type
        mesh = init_device_mesh(device, (world_size(),))
        for layer in _layers(encoder):
            fully_shard(layer, mesh=mesh, reshard_after_forward=reshard_after_forward)
        fully_shard(encoder, mesh=mesh, reshard_after_forward=reshard_after_forward)
        self.encoder = encoder
        self.optimizer = build_optimizer(encoder)
        self._chunks = ChunkEncoder(encoder, autocast_dtype)

    def encode(self, chunks: Sequence[TextChunk]) -> Tensor:
        return self._chunks([chunk.features for chunk in chunks], [chunk.seed for chunk in chunks])

    def encode_without_graph(self, chunks: Sequence[TextChunk]) -> Tensor:
        return self.encode(chunks)

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()

    def backward(self, scalar: Tensor) -> None:
        scalar.backward()

    def apply_gradients(self, *, learning_rate: float, max_norm: float | None) -> float:
        return clipped_step(self.encoder, self.optimizer, learning_rate=learning_rate, max_norm=max_norm)

    def save(self, directory: Path) -> None:
        dcp.save(self._state(), checkpoint_id=directory / SHARDS_FOLDER)
        if rank() == 0:
            Origin(self.name, world_size()).write(directory)

    def snapshot(self) -> Callable[[Path], None] | None:
        return None

    def load(self, directory: Path) -> None:
        learning = learning_parameters(self.encoder)
        if Origin.read(directory).strategy == self.name:
            self._prepare_moments()
            state = self._state()
            check_shards(directory / SHARDS_FOLDER)
            dcp.load(state, checkpoint_id=directory / SHARDS_FOLDER)
            for parameter in learning.values():
                self.optimizer.state[parameter]["step"].fill_(float(state["step"]))
        else:
            shapes = {name: parameter.shape for name, parameter in learning.items()}
            found = fitted(read_consolidated(directory, names_of_groups(learning, self.optimizer)), shapes, directory)
            self._prepare_moments()
            with torch.no_grad():
                for name, parameter in learning.items():
                    _set_shard(parameter, found.weights[name])
                    self.optimizer.state[parameter]["step"].fill_(found.step)
                    for key, value in found.moments.get(name, {}).items():
                        _set_shard(self.optimizer.state[parameter][key], value)

    def state_dict(self) -> dict[str, Tensor]:
        whole = {}
        for name, tensor in self.encoder.state_dict().items():
            full = whole_tensor(tensor).detach()
            if rank() == 0:
                whole[name] = full.to("cpu", copy=True)
        return whole

    def _state(self) -> dict[str, Any]:
        """Weights and moments by name: views of what the strategy works with, which loading fills in place."""
        learning = learning_parameters(self.encoder)
        states = {name: self.optimizer.state[parameter] for name, parameter in learning.items()}
        steps = [float(state["step"]) for state in states.values() if state]
        moments = {key: {name: state[key] for name, state in states.items() if state} for key in MOMENTS}
        return {
            "weights": {name: parameter.detach() for name, parameter in learning.items()},
            **moments,
            "step": torch.tensor(steps[0] if steps else 0.0),
        }

    def _prepare_moments(self) -> None:
        """Make the state that AdamW makes in its first step."""
        for parameter in learning_parameters(self.encoder).values():
            self.optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                **{key: torch.zeros_like(parameter.detach()) for key in MOMENTS},
            }


def _layers(encoder: nn.Module) -> list[nn.Module]:
    """The members of the outermost lists of modules: a transformer's layers."""
    found: list[nn.Module] = []
    for child in encoder.children():
        found += list(child) if isinstance(child, nn.ModuleList) else _layers(child)
    return found


def _set_shard(target: Tensor, value: Tensor) -> None:
    assert isinstance(target, DTensor)
    value = value.to(target.device)
    target.copy_(distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None))
