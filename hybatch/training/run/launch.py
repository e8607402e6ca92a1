"""What the launcher prepared: devices, processes, trackers, through accelerate."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration
from transformers.integrations import unset_hf_deepspeed_config

from hybatch.errors import UserError
from hybatch.processes import PATIENCE, launched_size
from hybatch.training.config import TrainingConfig
from hybatch.training.run.memory import keep_freed_memory
from hybatch.training.strategy.deepspeed.options import check_file
from hybatch.training.strategy.deepspeed.zero import import_deepspeed


def build_accelerator(config: TrainingConfig, output_dir: str) -> Accelerator:
    """Join the other processes of the launch and pick the device.

    Raises:
        UserError: the launcher's settings contradict the configuration, or a tracker is not there.
    """
    _check_all_started()
    _check_accumulation(os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1"))
    _check_precision(os.environ.get("ACCELERATE_MIXED_PRECISION", "no"), config.mixed_precision)
    _check_not_set_up_otherwise()
    _check_trackers(config.trackers)
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes")
    # Without a backend by name accelerate takes several CPU processes under DeepSpeed for a single one; with one it
    # expects a group even where there is a single process.
    is_deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
    if is_deepspeed:
        _check_deepspeed(on_cpu)
    several = launched_size(by_place=True) > 1
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        if not os.environ.get(name, "0").strip():
            del os.environ[name]  # accelerate would take it for a number
    is_gloo = (several or is_deepspeed) and (on_cpu or not torch.cuda.is_available())
    accelerator = Accelerator(
        mixed_precision="no",  # autocast is entered around the encoder only; the loss stays fp32
        log_with=config.trackers or None,
        project_config=ProjectConfiguration(output_dir, logging_dir=os.path.join(output_dir, "tensorboard")),
        # The group's own limit, 30 minutes on gloo and 10 on NCCL, would end the processes that wait while one indexes,
        # looks through the texts, validates or writes a checkpoint. Those that are lost or hang the watchdog finds.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE, **({"backend": "gloo"} if is_gloo else {}))],
    )
    if is_deepspeed:
        # Told of a stage 3, transformers would partition weights as it builds them, a collective; the encoder is built
        # whole, a fresh one on the main process alone, and partitioned afterwards.
        unset_hf_deepspeed_config()
    _check_accumulation(str(accelerator.gradient_accumulation_steps))
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


def _check_deepspeed(on_cpu: bool) -> None:
    import_deepspeed()
    if on_cpu:
        raise UserError(
            "accelerate was told to use DeepSpeed and use_cpu: true, with which it would train by plain DDP: set "
            "use_cpu to false; DeepSpeed runs on the CPU where there is no GPU (configs/accelerate/cpu-zero*.yaml)"
        )
    path = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if path.endswith(".json") or os.path.exists(path):  # else accelerate takes it for the configuration itself
        check_file(path)


def _check_all_started() -> None:
    """Notice a launcher that was asked for several CPU processes and started one: it leaves a port, but no size."""
    sizes = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    is_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true")
    if is_cpu and "MASTER_PORT" in os.environ and not any(name in os.environ for name in sizes):
        raise UserError(
            "accelerate was asked for several CPU processes but started one: that is what it does with --cpu or with "
            "distributed_type MULTI_CPU; use distributed_type MULTI_GPU with use_cpu: true (configs/accelerate/"
            "cpu-ddp.yaml), or --multi_gpu --num_processes N on a machine without GPU"
        )


def _check_accumulation(steps: str) -> None:
    if steps.strip() not in ("", "1"):
        raise UserError(
            f"gradient_accumulation_steps is {steps} in accelerate's configuration, but a batch is never accumulated "
            "over steps: set it to 1; sampling.batch_size is the batch and training.chunk_size what is encoded at once"
        )


def _check_precision(launched: str, configured: str) -> None:
    if launched not in ("", "no", configured):
        raise UserError(
            f"accelerate's mixed_precision is {launched}, but training.mixed_precision is {configured}: "
            "set training.mixed_precision to no, bf16 or auto and leave accelerate's out"
        )


def _check_not_set_up_otherwise() -> None:
    """Notice what another trainer in this process told accelerate, which keeps the first answer to the end."""
    if is_initialized() and (precision := AcceleratorState().mixed_precision) != "no":
        raise UserError(
            f"accelerate was already set up in this process, with mixed precision {precision} (by another trainer?), "
            "and cannot be set up anew: start this training in a process of its own"
        )


def _check_trackers(names: list[str]) -> None:
    available = [str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers()]
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise UserError(f"training.trackers: unknown tracker {name!r}; there are {', '.join(LOGGER_TYPE_TO_CLASS)}")
        if name not in available:
            raise UserError(
                f"training.trackers: {name} is not installed; installed are {', '.join(available) or 'none'}"
            )
