"""Which strategy: what the launcher prepared decides, and training.strategy must agree with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from accelerate import Accelerator
from torch import nn

from hybatch.errors import UserError
from hybatch.training.config import StrategyOption
from hybatch.training.strategy.deepspeed.options import check_accepted, engine_options, zero_block
from hybatch.training.strategy.deepspeed.zero import DeepSpeedStrategy, import_deepspeed
from hybatch.training.strategy.fully_sharded import FullyShardedStrategy
from hybatch.training.strategy.protocol import Strategy
from hybatch.training.strategy.replicated import ReplicatedStrategy

STRATEGIES = tuple(name for name in get_args(StrategyOption) if name != "auto")


@dataclass(frozen=True)
class PreparedEngine:
    """What the launcher prepared.

    Attributes:
        kind: accelerate's name: NO, MULTI_CPU, MULTI_GPU, DEEPSPEED, FSDP, ...
        processes: their number.
        deepspeed: the content of DeepSpeed's configuration; empty without DeepSpeed.
        fsdp: accelerate's FSDP_* settings; empty without FSDP.
    """

    kind: str
    processes: int
    deepspeed: dict[str, Any]
    fsdp: dict[str, str]


def prepared_engine(accelerator: Accelerator) -> PreparedEngine:
    """What accelerate prepared; FSDP too where accelerate was told to use it but knows it on GPUs only."""
    kind = accelerator.distributed_type.value
    is_fsdp = _flag(os.environ.get("ACCELERATE_USE_FSDP", "false"))
    if is_fsdp and kind in ("NO", "MULTI_CPU", "MULTI_GPU"):
        kind = "FSDP"
    deepspeed = dict(accelerator.deepspeed_plugin.deepspeed_config) if kind == "DEEPSPEED" else {}
    if kind == "DEEPSPEED" and accelerator.deepspeed_plugin.zero3_init_flag:
        raise UserError(
            "zero3_init_flag is true in accelerate's configuration, but hybatch partitions the encoder after building "
            "it: set it to false"
        )
    fsdp = {name: value for name, value in os.environ.items() if name.startswith("FSDP_")} if kind == "FSDP" else {}
    return PreparedEngine(kind, accelerator.num_processes, deepspeed, fsdp)


def check_strategy(name: str, prepared: PreparedEngine) -> str:
    """Settle the strategy of a run.

    Args:
        name: training.strategy.

    Returns:
        one of `STRATEGIES`.

    Raises:
        UserError: there is no such strategy, it is not what the launcher prepared, or that cannot train here.
    """
    if name not in ("auto", *STRATEGIES):
        raise UserError(f"training.strategy {name!r}: choose one of {', '.join(('auto', *STRATEGIES))}")
    if name == "none" and prepared.processes > 1:
        raise UserError(f"training.strategy none is for one process, but {prepared.processes} run: use auto or ddp")
    found = _strategy_of(prepared)
    if name == "fsdp2" and prepared.kind == "MULTI_CPU":
        found = "fsdp2"  # accelerate cannot be told so on a CPU
    if name in ("ddp", "fsdp2") and prepared.processes == 1:
        raise UserError(f"training.strategy {name} needs several processes, but one runs: use auto or none")
    if name not in ("auto", found):
        raise UserError(
            f"training.strategy is {name}, but the launcher prepared {found}: launch with "
            f"accelerate launch --config_file configs/accelerate/{_FILES[name]}.yaml (cpu-{_FILES[name]}.yaml without "
            "a GPU), or set training.strategy to auto"
        )
    if found == "fsdp2":
        _check_fsdp(prepared)
    return found


_FILES = {"none": "single", "ddp": "ddp", "zero1": "zero1", "zero2": "zero2", "zero3": "zero3", "fsdp2": "fsdp"}


def _strategy_of(prepared: PreparedEngine) -> str:
    if prepared.kind == "DEEPSPEED":
        return f"zero{zero_block(prepared.deepspeed).get('stage')}"
    if prepared.kind == "FSDP":
        return "fsdp2"
    if prepared.kind in ("NO", "MULTI_CPU", "MULTI_GPU"):
        return "none" if prepared.processes == 1 else "ddp"
    raise UserError(
        f"accelerate was told to use {prepared.kind}, which hybatch does not train with: launch with one of "
        "configs/accelerate/"
    )


def _check_fsdp(prepared: PreparedEngine) -> None:
    if prepared.processes == 1:
        raise UserError("FSDP2 needs several processes, but one runs: launch with configs/accelerate/single.yaml")
    reasons = {
        "FSDP_OFFLOAD_PARAMS": "offload needs DeepSpeed: launch with configs/accelerate/zero3-offload.yaml",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "every process reads the weights: set it to false",
        "FSDP_ACTIVATION_CHECKPOINTING": "use model.gradient_checkpointing instead",
    }
    for variable, reason in reasons.items():
        if _flag(prepared.fsdp.get(variable, "false")):
            raise UserError(f"accelerate's configuration sets {variable.lower()}, but {reason}")
    if prepared.fsdp.get("FSDP_VERSION", "2") != "2":
        raise UserError("accelerate's configuration asks for FSDP 1: set fsdp_version to 2")


def check_engine_options(prepared: PreparedEngine, *, batch_size: int, max_grad_norm: float | None) -> dict[str, Any]:
    """Settle DeepSpeed's configuration; empty without DeepSpeed.

    Raises:
        UserError: it contradicts hybatch's, DeepSpeed refuses it or is not installed.
    """
    if prepared.kind != "DEEPSPEED":
        return {}
    import_deepspeed()
    options = engine_options(
        prepared.deepspeed, batch_size=batch_size, processes=prepared.processes, max_grad_norm=max_grad_norm
    )
    check_accepted(options)
    return options


def build_strategy(
    name: str,
    encoder: nn.Module,
    build_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    *,
    prepared: PreparedEngine,
    deepspeed_options: dict[str, Any],
    autocast_dtype: torch.dtype | None,
) -> Strategy:
    """Hand a whole encoder to the strategy that `check_strategy` settled."""
    if name == "fsdp2":
        return FullyShardedStrategy(
            encoder,
            build_optimizer,
            reshard_after_forward=_flag(prepared.fsdp.get("FSDP_RESHARD_AFTER_FORWARD", "true")),
            autocast_dtype=autocast_dtype,
        )
    if name.startswith("zero"):
        return DeepSpeedStrategy(
            encoder, build_optimizer(encoder), options=deepspeed_options, autocast_dtype=autocast_dtype
        )
    return ReplicatedStrategy(encoder, build_optimizer(encoder), autocast_dtype=autocast_dtype)


def _flag(value: str) -> bool:
    return value.strip().lower() in ("1", "true", "yes", "full_shard")
