"""What `training.mixed_precision` comes to on the devices of a run."""

from __future__ import annotations

import torch

from hybatch.models.precision import why_not_all_bf16
from hybatch.training.config import TrainingConfig


def settle_precision(training: TrainingConfig, device: torch.device) -> str | None:
    """Put what `auto` comes to in its place, for all processes alike; collective.

    The run's config.yaml and all that looks at the option know the precision alone: a run goes on in the one that it
    began in, or not at all.

    Args:
        training: on every process with the same mixed_precision, which is settled in place.
        device: of this process's encoder.

    Returns:
        A line for the user, what `auto` came to and why, or that bf16 is slower here; None where all is as asked.
    """
    if training.mixed_precision == "no":
        return None
    reason = why_not_all_bf16(device)
    if training.mixed_precision == "auto":
        training.mixed_precision = "bf16" if reason is None else "no"
        return f"training.mixed_precision: auto comes to {training.mixed_precision}{f' ({reason})' if reason else ''}"
    if reason is None:
        return None
    return f"training.mixed_precision is bf16, but {reason}: it is slower than float32 there; set it to auto, or to no"
