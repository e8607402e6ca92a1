"""The encoders that a run leaves for use: initial/, best/ and final/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from hybatch.errors import UserError
from hybatch.models import Encoder
from hybatch.models.card import Origin


def save_encoder(
    encoder: Encoder, directory: Path, state_dict: Mapping[str, Tensor] | None = None, *, origin: Origin
) -> None:
    """Write an encoder's folder, whole or not at all.

    Args:
        state_dict: the whole encoder's weights, where `encoder` holds only a shard of them.
        origin: what its model card says of how it was made.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    try:
        encoder.save(directory, state_dict, origin=origin)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {directory}: {error}; finished checkpoints are intact") from error
