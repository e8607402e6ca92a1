"""What to do where a step does not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hybatch.errors import UserError
from hybatch.processes import rank
from hybatch.training.config import RunConfig


@contextmanager
def naming_memory(config: RunConfig, step: int, *, validating: bool = False) -> Iterator[None]:
    """Say what takes less memory where a step, or the validation after it, runs out of that.

    Raises:
        UserError: the device's memory, or this machine's, is full.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        options = ["training.chunk_size", "training.chunk_tokens"]
        if validating and config.validation.metric == "map":
            options = ["validation.batch_size"]
        if validating and config.validation.tasks:
            options.append("batch_size of validation.tasks")
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{'the validation after ' if validating else ''}step {step} does not fit into the memory of process "
            f"{rank()} ({reason}): give or lower {' or '.join(options)}, with which this run may go on; hybatch plan "
            "says what saves more. Checkpoints of earlier steps are intact"
        ) from error
