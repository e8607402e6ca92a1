"""DeepSpeed's configuration: what a file may say, and what hybatch's own configuration settles.

Only keys that are known to leave reduction, precision and data alone may pass, since a run is to equal one process on
the whole batch under every strategy. `ALLOWED` lists them; whatever else a file says is refused by its name, so that a
key that a later version of DeepSpeed adds changes nothing unseen.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybatch.errors import UserError

_SETTLED = "auto, or the value that hybatch's configuration makes"
ALLOWED: Mapping[str, str] = {
    "train_batch_size": _SETTLED,
    "train_micro_batch_size_per_gpu": _SETTLED,
    "gradient_accumulation_steps": _SETTLED,
    "gradient_clipping": _SETTLED,
    "steps_per_print": "not used: `metrics.jsonl` has the figures",
    "wall_clock_breakdown": "times of the parts of a step, printed",
    "memory_breakdown": "memory at each part of a step, printed",
    "dump_state": "the engine's settings, printed at the start",
    "zero_optimization.stage": "1, 2 or 3",
    "zero_optimization.contiguous_gradients": "whether gradients are copied to one buffer as they come",
    "zero_optimization.overlap_comm": "whether gradients travel during the backward pass",
    "zero_optimization.reduce_scatter": "one collective or another for the average of the gradients",
    "zero_optimization.reduce_bucket_size": "how many gradients travel at once",
    "zero_optimization.use_multi_rank_bucket_allreduce": "whether buckets of several processes travel together",
    "zero_optimization.allgather_partitions": "one collective or another for the updated weights",
    "zero_optimization.allgather_bucket_size": "how many updated weights travel at once",
    "zero_optimization.ignore_unused_parameters": "whether a parameter without gradient is an error",
    "zero_optimization.stage3_prefetch_bucket_size": "stage 3: how many weights are fetched ahead",
    "zero_optimization.stage3_param_persistence_threshold": "stage 3: smaller parameters stay whole on every process",
    "zero_optimization.stage3_model_persistence_threshold": "stage 3: how many weights may stay whole in all",
    "zero_optimization.stage3_max_live_parameters": "stage 3: how many weights may be whole at once",
    "zero_optimization.stage3_max_reuse_distance": "stage 3: weights needed again so soon stay whole",
    "zero_optimization.stage3_gather_16bit_weights_on_model_save": "not used: `best/` and `final/` hold whole weights",
    "zero_optimization.log_trace_cache_warnings": "stage 3: more warnings",
    "zero_optimization.enable_sanity_checks": "DeepSpeed's checks of itself",
    "zero_optimization.offload_optimizer.device": "none, or cpu (stages 2 and 3)",
    "zero_optimization.offload_optimizer.pin_memory": "whether the moments' host memory is page-locked",
    "zero_optimization.offload_param.device": "none, or cpu (stage 3)",
    "zero_optimization.offload_param.pin_memory": "whether the weights' host memory is page-locked",
}
"""What a file may say -> what it sets."""

_FLAGS = ("wall_clock_breakdown", "memory_breakdown", "dump_state")
_ZERO = "zero_optimization"
_OFFLOADS = ("offload_optimizer", "offload_param")

# Other keys pass at the one value at which they do nothing; many files spell out such defaults.
_WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "communication_data_type": ("fp32",),
    "seq_parallel_communication_data_type": ("fp32",),
    "gradient_allreduce_op": ("mean",),
    "prescale_gradients": (False,),
    "gradient_predivide_factor": (1.0,),
    "sparse_gradients": (False,),
    "disable_allgather": (False,),
    "dataloader_drop_last": (False,),
    "zero_allow_untested_optimizer": (True,),
    "zero_force_ds_cpu_optimizer": (False,),
    f"{_ZERO}.load_from_fp32_weights": (True,),
    f"{_ZERO}.elastic_checkpoint": (False,),
    f"{_ZERO}.legacy_stage1": (False,),
    f"{_ZERO}.compute_grad_norm": (True,),
    f"{_ZERO}.round_robin_gradients": (False,),
    f"{_ZERO}.parameter_alignment": (False,),
    f"{_ZERO}.sub_group_size": (10**9,),
    f"{_ZERO}.memory_efficient_linear": (True,),
    f"{_ZERO}.zero_hpz_partition_size": (1,),
    f"{_ZERO}.zero_quantized_weights": (False,),
    f"{_ZERO}.zero_quantized_nontrainable_weights": (False,),
    f"{_ZERO}.zero_quantized_gradients": (False,),
    f"{_ZERO}.mics_shard_size": (-1,),
    f"{_ZERO}.mics_hierarchical_params_gather": (False,),
    f"{_ZERO}.stage3_gather_fp16_weights_on_model_save": (False, True),
    f"{_ZERO}.cpu_offload": (False,),
    f"{_ZERO}.cpu_offload_param": (False,),
    f"{_ZERO}.cpu_offload_params": (False,),
    f"{_ZERO}.offload_optimizer.nvme_path": ("none",),
    f"{_ZERO}.offload_optimizer.ratio": (1.0,),
    f"{_ZERO}.offload_optimizer.super_offload": (False,),
    f"{_ZERO}.offload_param.nvme_path": ("none",),
}

_PRECISION = "training.mixed_precision says in what the encoder runs"
_REDUCTION = "the gradients of all processes are averaged, in float32"
_DATA = "hybatch's sampler says what a batch is"
_QUANTIZED = "weights and gradients travel as they are, in float32"
_NVME = "it is for NVMe, to which hybatch does not offload"
_LAYOUT = "it lays out checkpoints otherwise, and a run could not go on under another value"
_CHECKPOINTS = "hybatch writes and reads the checkpoints"
_TRACKERS = "training.trackers says what is told of a run, and metrics.jsonl has tflops"
_MODEL = "hybatch builds the encoder, and every process computes with whole layers"
# Why, by the last part of the key.
_REASONS: Mapping[str, str] = {
    "optimizer": "training.learning_rate, weight_decay, betas and epsilon describe AdamW",
    "zero_allow_untested_optimizer": "the optimizer is torch's AdamW",
    "zero_force_ds_cpu_optimizer": "the optimizer is torch's AdamW",
    "super_offload": "the optimizer is torch's AdamW",
    "cpuadam_cores_perc": "the optimizer is torch's AdamW",
    "ratio": "moments are offloaded as a whole",
    "scheduler": "training.schedule and warm-up describe the learning rate",
    "fp16": _PRECISION,
    "float16": _PRECISION,
    "bf16": _PRECISION,
    "bfloat16": _PRECISION,
    "fp8": _PRECISION,
    "amp": _PRECISION,
    "msamp": _PRECISION,
    "torch_autocast": _PRECISION,
    "data_types": "weights, gradients and moments are float32",
    "communication_data_type": "gradients are exchanged in float32",
    "seq_parallel_communication_data_type": "gradients are exchanged in float32",
    "gradient_allreduce_op": _REDUCTION,
    "prescale_gradients": _REDUCTION,
    "gradient_predivide_factor": _REDUCTION,
    "sparse_gradients": _REDUCTION,
    "disable_allgather": "every process needs the updated weights",
    "managed_gradient_accumulation": "hybatch says which backward pass is the last of a step",
    "compute_grad_norm": "the norm is clipped by and reported",
    "zero_quantized_weights": _QUANTIZED,
    "zero_quantized_nontrainable_weights": _QUANTIZED,
    "zero_quantized_gradients": _QUANTIZED,
    "zeropp_loco_param": _QUANTIZED,
    "quantize_training": _QUANTIZED,
    "weight_quantization": _QUANTIZED,
    "compression_training": "it changes the weights that are trained",
    "progressive_layer_drop": "it changes the model that is trained",
    "zero_hpz_partition_size": "weights are cut over all processes",
    "mics_shard_size": "weights are cut over all processes",
    "zenflow": "it updates weights with gradients of earlier steps",
    "data_efficiency": _DATA,
    "curriculum_learning": _DATA,
    "dataloader_drop_last": _DATA,
    "tensor_parallel": _MODEL,
    "expert_parallel": _MODEL,
    "sequence_parallel_size": _MODEL,
    "pipeline": _MODEL,
    "sparse_attention": _MODEL,
    "hybrid_engine": _MODEL,
    "leaf_module": _MODEL,
    "compile": "training.compile compiles the encoder",
    "activation_checkpointing": "model.gradient_checkpointing is the option for it",
    "elasticity": "the batch is sampling.batch_size for any number of processes",
    "autotuning": "sampling.batch_size and training.chunk_size say how much is encoded",
    "load_from_fp32_weights": _CHECKPOINTS,
    "elastic_checkpoint": _CHECKPOINTS,
    "checkpoint": _CHECKPOINTS,
    "nebula": _CHECKPOINTS,
    "datastates_ckpt": _CHECKPOINTS,
    "round_robin_gradients": _LAYOUT,
    "parameter_alignment": _LAYOUT,
    "sub_group_size": _LAYOUT,
    "legacy_stage1": _LAYOUT,
    "cpu_offload": 'it is an old name: write "offload_optimizer": {"device": "cpu"}',
    "cpu_offload_param": 'it is an old name: write "offload_param": {"device": "cpu"}',
    "cpu_offload_params": 'it is an old name: write "offload_param": {"device": "cpu"}',
    "cpu_offload_use_pin_memory": "it is an old name: write pin_memory in offload_optimizer or offload_param",
    "aio": _NVME,
    "nvme_path": _NVME,
    "buffer_count": _NVME,
    "buffer_size": _NVME,
    "max_in_cpu": _NVME,
    "pipeline_read": _NVME,
    "pipeline_write": _NVME,
    "fast_init": _NVME,
    "flops_profiler": _TRACKERS,
    "tensorboard": _TRACKERS,
    "wandb": _TRACKERS,
    "csv_monitor": _TRACKERS,
    "comet": _TRACKERS,
}


def engine_options(
    given: dict[str, Any], *, batch_size: int, processes: int, max_grad_norm: float | None
) -> dict[str, Any]:
    """The configuration for DeepSpeed: what the user's file says of ZeRO, all else from hybatch's options.

    Args:
        given: the content of the file that accelerate's configuration names; "auto" anywhere leaves DeepSpeed's default
            or hybatch's value.
        batch_size: sampling.batch_size.

    Raises:
        UserError: the file contradicts hybatch's configuration, says something that is not `ALLOWED`, or asks for a
            stage or an offload that there is not.
    """
    zero = zero_block(given)
    _check_zero(zero)
    kept = _allowed_part(given, "")
    for name in _FLAGS:
        if not isinstance(kept.get(name, False), bool):
            raise UserError(f"DeepSpeed's configuration has {name} {kept[name]!r}: use true or false")
    settled = {
        "train_batch_size": batch_size,
        "train_micro_batch_size_per_gpu": batch_size // processes,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": max_grad_norm or 0.0,
    }
    owners = ("sampling.batch_size", "sampling.batch_size and the processes", "the chunking", "training.max_grad_norm")
    for (option, value), owner in zip(settled.items(), owners, strict=True):
        found = kept.get(option, value)
        if found != value or isinstance(found, bool):
            raise UserError(
                f"DeepSpeed's configuration has {option} {found}, but {owner} makes it {value}: set it to auto"
            )
    return (
        kept
        | settled
        | {
            "zero_allow_untested_optimizer": True,  # torch's fused AdamW, which needs no compiling
            "zero_force_ds_cpu_optimizer": False,  # it steps on CPU tensors too, where moments are offloaded
            "steps_per_print": None,
        }
    )


def zero_block(given: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that describes ZeRO; empty where there is none.

    Raises:
        UserError: it is no object.
    """
    zero = given.get(_ZERO) or {}
    if not isinstance(zero, dict):
        raise UserError(f'DeepSpeed\'s configuration has {_ZERO} {zero!r}: write an object, {{"stage": 2}}')
    return zero


def check_file(path: str) -> None:
    """Check that a file holds a DeepSpeed configuration, before accelerate reads it.

    Raises:
        UserError: it is missing, not JSON, or says nothing of ZeRO or nothing that accelerate could read.
    """
    mend = "deepspeed_config_file in accelerate's configuration names it"
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {mend}") from error
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error}); {mend}") from error
    if not isinstance(given, dict) or _ZERO not in given:
        raise UserError(f'{path}: has no "{_ZERO}" with a stage; configs/deepspeed/ has examples')
    for part in _OFFLOADS:
        _offload_device(zero_block(given), part)


def check_accepted(options: dict[str, Any]) -> None:
    """Let DeepSpeed read a configuration, before long work.

    Raises:
        UserError: it refuses a value of `zero_optimization`.
    """
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from pydantic import ValidationError

    try:
        DeepSpeedZeroConfig(**options["zero_optimization"])
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(["zero_optimization", *map(str, first["loc"])])
        raise UserError(f"DeepSpeed refuses {name} {first.get('input')!r}: {first['msg']}") from error
    except (AssertionError, ValueError) as error:
        raise UserError(f"DeepSpeed refuses zero_optimization: {error}") from error


def _check_zero(zero: dict[str, Any]) -> None:
    stage = zero.get("stage")
    if stage not in (1, 2, 3) or isinstance(stage, bool | float):
        raise UserError(f"DeepSpeed's configuration has {_ZERO}.stage {stage!r}: use 1, 2 or 3, or plain DDP")
    devices = {part: _offload_device(zero, part) for part in _OFFLOADS}
    if stage < 3 and devices["offload_param"] == "cpu":
        raise UserError(f"{_ZERO}.offload_param needs stage 3, not {stage}: offload the optimizer only")
    if stage < 2 and devices["offload_optimizer"] == "cpu":
        raise UserError(f"{_ZERO}.offload_optimizer needs stage 2 or 3, not 1")


def _offload_device(zero: dict[str, Any], part: str) -> str:
    block = zero.get(part)
    if block is None:
        return "none"
    if not isinstance(block, dict):
        raise UserError(f'{_ZERO}.{part} is {block!r}: write an object, {{"device": "cpu"}}')
    device = block.get("device", "none")
    if device in (None, "auto"):
        return "none"
    if device not in ("none", "cpu"):
        raise UserError(f"{_ZERO}.{part}.device is {device!r}: use none or cpu")
    return str(device)


def _allowed_part(given: dict[str, Any], prefix: str) -> dict[str, Any]:
    """What is allowed of a block; without what says "auto" or nothing, does nothing, or offloads nowhere.

    Raises:
        UserError: names the first key that is not allowed.
    """
    kept: dict[str, Any] = {}
    for key, value in given.items():
        name = f"{prefix}{key}"
        is_block = any(allowed.startswith(f"{name}.") for allowed in ALLOWED)
        if is_block and isinstance(value, dict):
            block = _allowed_part(value, f"{name}.")
            # A block of offload that names no device offloads nowhere.
            if key == _ZERO or "device" in block:
                kept[key] = block
        elif value in ("auto", None) or (key == "device" and value == "none"):
            continue
        elif name in ALLOWED:
            kept[key] = value
        elif not _is_without_effect(name, value):
            raise UserError(_refusal(name, value))
    return kept


def _is_without_effect(name: str, value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("enabled", True) in (False, "auto")
    return value in _WITHOUT_EFFECT.get(name, ())


def _refusal(name: str, value: Any) -> str:
    found = f"DeepSpeed's configuration has {name}: {value!r}"
    key = name.rpartition(".")[2]
    spellings = {_plain(known): reason for known, reason in _REASONS.items()}
    if reason := spellings.get(_plain(key)):
        return f"{found}, but {reason}: take {name} out"
    # DeepSpeed also takes the names of stage 3 without their prefix.
    known = {_plain(allowed).replace("stage3", ""): allowed for allowed in [*ALLOWED, _ZERO]}
    meant = difflib.get_close_matches(_plain(name), known, n=1, cutoff=0.9)
    hint = f", or write {known[meant[0]]} if that is meant" if meant else ""
    return (
        f"{found}, which is not among the keys that are known to leave reduction, precision and data alone "
        f"(docs/distributed.md lists them): take {name} out{hint}"
    )


def _plain(name: str) -> str:
    """A key without what people write differently: BFloat16, bfloat-16."""
    return re.sub(r"[^a-z0-9.]", "", name.lower())
