"""Which linear layers of a backbone get an update."""

from __future__ import annotations

import difflib
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from hybatch.errors import UserError
from hybatch.models.backbone.reading import unread_backbone
from hybatch.models.backbone.traits import unused_parameters
from hybatch.models.lora.config import LoraConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_targets(folder: Path, lora: LoraConfig) -> None:
    """Check the targets on the backbone of a folder, whose weights are not read.

    Raises:
        UserError: as `target_layers`, or the folder's configuration cannot be read.
    """
    with FakeTensorMode():
        backbone = unread_backbone(folder)
        target_layers(backbone, lora.targets, unused_parameters(backbone))


def target_layers(backbone: PreTrainedModel, targets: Literal["auto"] | list[str], unused: Set[str]) -> tuple[str, ...]:
    """Settle `model.lora.targets`.

    Args:
        unused: names of the parameters that no vector depends on: an update of such a layer would never learn.

    Returns:
        Names of `nn.Linear` modules, no subclass of it, in the backbone's order.

    Raises:
        UserError: the backbone has none, or none of a name that is asked for.
    """
    linear = [name for name, module in backbone.named_modules() if type(module) is nn.Linear]
    usable = [name for name in linear if f"{name}.weight" not in unused]
    kind = backbone.config.model_type
    if not usable:
        raise UserError(f"model.lora: the backbone {kind!r} has no linear layer that a vector depends on: leave it out")
    if targets == "auto":
        return tuple(usable)
    for target in targets:
        if _named(target, usable):
            continue
        if _named(target, linear):
            raise UserError(
                f"model.lora.targets: no vector depends on {target!r} of the backbone {kind!r}: leave it out"
            )
        raise UserError(
            f"model.lora.targets: the backbone {kind!r} has no linear layer {target!r}{_near(target, usable)}"
        )
    return tuple(name for name in usable if any(_named(target, [name]) for target in targets))


def _named(target: str, names: list[str]) -> list[str]:
    return [name for name in names if name == target or name.endswith(f".{target}")]


def _near(target: str, names: list[str]) -> str:
    """The names that look like a target, or how the layers are called by their last word."""
    words = [name.split(".") for name in names]
    endings = dict.fromkeys(".".join(parts[-count:]) for parts in words for count in range(1, len(parts) + 1))
    near = difflib.get_close_matches(target, list(endings), n=5, cutoff=0.6)
    return f"; near names: {', '.join(near or dict.fromkeys(parts[-1] for parts in words))}"
