"""ZeRO-1, -2 and -3 of DeepSpeed, with and without offload to the CPU.

Weights, gradients and moments stay float32; mixed precision is autocast around the encoder, as everywhere else, and
none of DeepSpeed's own. The optimizer is the AdamW of every strategy, on this process's part of the flattened weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybatch.errors import UserError
from hybatch.processes import rank, world_size
from hybatch.training.strategy.chunk_encoder import ChunkEncoder
from hybatch.training.strategy.consolidated import Consolidated, Origin, fitted, learning_parameters
from hybatch.training.strategy.deepspeed.universal import ZERO_FOLDER
from hybatch.training.strategy.planted_code import tensors_only
from hybatch.training.strategy.sources import names_of_groups, read_consolidated
from hybatch.training.strategy.text_chunk import TextChunk


class DeepSpeedStrategy:
    """A DeepSpeed engine; see `Strategy`."""

    def __init__(
        self,
        encoder: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        options: dict[str, Any],
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        """Partition `encoder`, which must be whole and the same on every process.

        Args:
            options: DeepSpeed's configuration, as `engine_options` settles it.
        """
        deepspeed = import_deepspeed()
        self.stage: int = options["zero_optimization"]["stage"]
        self.name = f"zero{self.stage}"
        self.equal_chunks = self.stage >= 2
        self.encoder = encoder
        learning = learning_parameters(encoder)
        self._group_names = names_of_groups(learning, optimizer)
        self._shapes = {name: parameter.shape for name, parameter in learning.items()}
        self._whole_state = list(encoder.state_dict())
        try:
            self._engine: Any = deepspeed.initialize(
                model=ChunkEncoder(encoder, autocast_dtype), optimizer=optimizer, config=options
            )[0]
        except (AssertionError, ValueError) as error:
            raise UserError(f"DeepSpeed refuses its configuration: {error}") from error

    def encode(self, chunks: Sequence[TextChunk]) -> Tensor:
        return self._engine([chunk.features for chunk in chunks], [chunk.seed for chunk in chunks])

    def encode_without_graph(self, chunks: Sequence[TextChunk]) -> Tensor:
        return self._engine.module([chunk.features for chunk in chunks], [chunk.seed for chunk in chunks])

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        # Left to count for itself, DeepSpeed takes every backward pass for the last of a step: stages 1 and 2 then
        # keep the gradient of one chunk only.
        self._engine.set_gradient_accumulation_boundary(last)
        return nullcontext()

    def backward(self, scalar: Tensor) -> None:
        self._engine.backward(scalar, scale_wrt_gas=False)

    def apply_gradients(self, *, learning_rate: float, max_norm: float | None) -> float:
        self._engine.optimizer.clip_grad = max_norm or 0.0
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        # DeepSpeed leaves the step out where the norm is not finite, and reports it as infinite.
        self._engine.step()
        return float(self._engine.get_global_grad_norm())

    def save(self, directory: Path) -> None:
        options = {"save_latest": False, "exclude_frozen_parameters": True}
        self._engine.save_checkpoint(str(directory), tag=ZERO_FOLDER, **options)
        if rank() == 0:
            Origin(self.name, world_size()).write(directory)

    def snapshot(self) -> Callable[[Path], None] | None:
        return None

    def load(self, directory: Path) -> None:
        if Origin.read(directory) == Origin(self.name, world_size()):
            with tensors_only(directory):
                # Not strict: frozen parameters are missing, and what learns comes from the optimizer's own partitions.
                options = {"load_lr_scheduler_states": False, "load_module_strict": False}
                self._engine.load_checkpoint(str(directory), tag=ZERO_FOLDER, **options)
        else:
            self._take_up(fitted(read_consolidated(directory, self._group_names), self._shapes, directory))

    def state_dict(self) -> dict[str, Tensor]:
        tensors = dict(self.encoder.named_parameters()) | dict(self.encoder.named_buffers())
        whole = {}
        for name in self._whole_state:
            with self._gathered(tensors[name]):
                if rank() == 0:
                    whole[name] = tensors[name].detach().to("cpu", copy=True)
        return whole

    @contextmanager
    def _gathered(self, tensor: Tensor, *, writing: bool = False) -> Iterator[None]:
        """Within it a parameter is whole on every process; what the main process writes reaches all."""
        if hasattr(tensor, "ds_id"):
            from deepspeed.runtime.zero import GatheredParameters

            with GatheredParameters([tensor], modifier_rank=0 if writing else None):
                yield
        else:
            yield

    @torch.no_grad()
    def _take_up(self, found: Consolidated) -> None:
        """Put weights and moments, by name, into this process's partitions."""
        if found.moments:
            self._prepare_moments(found.step)
        for name, parameter in learning_parameters(self.encoder).items():
            with self._gathered(parameter, writing=True):
                parameter.copy_(found.weights[name])
            self._set_partition(parameter, found.weights[name], None)
            for key, value in found.moments.get(name, {}).items():
                self._set_partition(parameter, value, key)

    def _prepare_moments(self, step: float) -> None:
        """Make the state that AdamW makes in its first step."""
        zero = self._engine.optimizer
        partitions = zero.fp32_partitioned_groups_flat if self.stage == 3 else zero.single_partition_of_fp32_groups
        for partition in partitions:
            zero.optimizer.state[partition] = {
                "step": torch.tensor(step, dtype=torch.float32, device=partition.device),
                "exp_avg": torch.zeros_like(partition),
                "exp_avg_sq": torch.zeros_like(partition),
            }
        if self.stage < 3:
            zero._lazy_init_hp_params_optimizer_state()

    def _set_partition(self, parameter: nn.Parameter, value: Tensor, key: str | None) -> None:
        from deepspeed.utils import (
            safe_set_full_fp32_param,
            safe_set_full_optimizer_state,
            safe_set_local_fp32_param,
            safe_set_local_optimizer_state,
        )

        if self.stage < 3:
            if key is None:
                safe_set_full_fp32_param(parameter, value)
            else:
                safe_set_full_optimizer_state(parameter, value, key)
            return
        # The last process's part is padded; DeepSpeed's setter of whole tensors reads beyond the end there.
        part: Any = parameter
        size = part.ds_tensor.ds_numel
        own = nn.functional.pad(value.flatten(), (0, size * world_size() - value.numel()))
        own = own[rank() * size : (rank() + 1) * size]
        if key is None:
            safe_set_local_fp32_param(parameter, own)
        else:
            safe_set_local_optimizer_state(parameter, own, key)


def import_deepspeed() -> Any:
    """Import DeepSpeed, which is optional, and quieten it.

    Raises:
        UserError: it is not installed.
    """
    try:
        import deepspeed
    except ImportError as error:
        raise UserError("DeepSpeed is not installed: pip install 'hybatch[deepspeed]'") from error
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if not torch.cuda.is_available():
        # DeepSpeed would first compile an all-reduce over shared memory for CPU processes, which takes a minute and a
        # half and a compiler; gloo's is there.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
