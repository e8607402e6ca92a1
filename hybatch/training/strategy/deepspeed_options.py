"""DeepSpeed's configuration, settled from hybatch's; a file that says otherwise is refused."""

from __future__ import annotations

from typing import Any

from hybatch.errors import UserError

_HYBATCH_OWNS = {
    "optimizer": "training.learning_rate, weight_decay, betas and epsilon describe AdamW",
    "scheduler": "training.schedule and warm-up describe the learning rate",
    "fp16": "training.mixed_precision says in what the encoder runs",
    "bf16": "training.mixed_precision says in what the encoder runs",
    "amp": "training.mixed_precision says in what the encoder runs",
    "torch_autocast": "training.mixed_precision says in what the encoder runs",
    "data_types": "gradients are accumulated in float32",
    "communication_data_type": "gradients are exchanged in float32",
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
        UserError: the file contradicts hybatch's configuration, or asks for a stage or an offload that there is not.
    """
    for block, owner in _HYBATCH_OWNS.items():
        value = given.get(block)
        if value not in (None, "auto") and not (
            isinstance(value, dict) and value.get("enabled", True) in (False, "auto")
        ):
            raise UserError(f"DeepSpeed's configuration has {block}: {value!r}, but {owner}: take {block} out")
    settled = {
        "train_batch_size": batch_size,
        "train_micro_batch_size_per_gpu": batch_size // processes,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": max_grad_norm or 0.0,
    }
    owners = ("sampling.batch_size", "sampling.batch_size and the processes", "the chunking", "training.max_grad_norm")
    for (option, value), owner in zip(settled.items(), owners, strict=True):
        found = given.get(option, "auto")
        if found not in ("auto", None, value):
            raise UserError(
                f"DeepSpeed's configuration has {option} {found}, but {owner} makes it {value}: set it to auto"
            )
    _check_zero(given.get("zero_optimization") or {})
    others = {key: value for key, value in given.items() if key not in _HYBATCH_OWNS}
    return (
        _without_auto(others)
        | settled
        | {
            "zero_allow_untested_optimizer": True,  # torch's fused AdamW, which needs no compiling
            "zero_force_ds_cpu_optimizer": False,  # it steps on CPU tensors too, where moments are offloaded
            "steps_per_print": None,
        }
    )


def _check_zero(zero: dict[str, Any]) -> None:
    stage = zero.get("stage")
    if stage not in (1, 2, 3):
        raise UserError(f"DeepSpeed's configuration has zero_optimization.stage {stage}: use 1, 2 or 3, or plain DDP")
    for part in ("offload_optimizer", "offload_param"):
        device = (zero.get(part) or {}).get("device", "none")
        if device not in ("none", "cpu"):
            raise UserError(f"zero_optimization.{part}.device is {device!r}: use none or cpu")
    if stage < 3 and (zero.get("offload_param") or {}).get("device", "none") != "none":
        raise UserError(f"zero_optimization.offload_param needs stage 3, not {stage}: offload the optimizer only")
    if stage < 2 and (zero.get("offload_optimizer") or {}).get("device", "none") != "none":
        raise UserError("zero_optimization.offload_optimizer needs stage 2 or 3, not 1")


def _without_auto(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what says "auto" or nothing at any depth, and blocks that offload nowhere."""
    kept: dict[str, Any] = {}
    for key, value in options.items():
        if value in ("auto", None) or (isinstance(value, dict) and value.get("device") == "none"):
            continue
        kept[key] = _without_auto(value) if isinstance(value, dict) else value
    return kept
