"""Weights and AdamW's moments by parameter name: what a checkpoint holds, whichever strategy wrote it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hybatch.errors import UserError
from hybatch.processes import rank, run_on_main, world_size

ORIGIN = "strategy.json"
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Origin:
    """Who wrote a checkpoint."""

    strategy: str
    world_size: int

    def write(self, directory: Path) -> None:
        text = json.dumps({"strategy": self.strategy, "world_size": self.world_size})
        (directory / ORIGIN).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> Origin:
        """The origin that `write` left; folders from before it existed were written by replicated strategies.

        Raises:
            UserError: the file is damaged.
        """
        path = directory / ORIGIN
        if not path.exists():
            return cls("ddp", 0)
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} is damaged: {error}") from error


@dataclass(frozen=True)
class Consolidated:
    """A checkpoint's trained state, whole on every process.

    Attributes:
        weights: by name of the encoder's parameter, those that learn at least; float32.
        moments: "exp_avg" and "exp_avg_sq" of every parameter that learns, by its name; empty before the first step.
        step: updates that AdamW has done.
    """

    weights: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]
    step: float


def learning_parameters(encoder: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name. All others are the same in every run of a configuration."""
    return {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def frozen_parameters(encoder: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that do not learn, by each of their names: no checkpoint holds them."""
    named = encoder.named_parameters(remove_duplicate=False)
    return {name: parameter for name, parameter in named if not parameter.requires_grad}


def fitted(found: Consolidated, shapes: dict[str, torch.Size], directory: Path) -> Consolidated:
    """The state of the parameters that learn, in the model's shapes; stage 3 of DeepSpeed writes them flat.

    Raises:
        UserError: one is missing or has another shape.
    """
    for name, shape in shapes.items():
        if name not in found.weights:
            raise UserError(f"{directory} has no weights for {name}: it is the checkpoint of another model")
        if found.weights[name].shape not in (shape, (shape.numel(),)):
            raise UserError(
                f"{directory}: {name} has shape {list(found.weights[name].shape)}, the model's has {list(shape)}: "
                "it is the checkpoint of another model"
            )
    weights = {name: found.weights[name].view(shape) for name, shape in shapes.items()}
    moments = {
        name: {key: value.view(shapes[name]) for key, value in of_one.items()}
        for name, of_one in found.moments.items()
        if name in shapes
    }
    return Consolidated(weights, moments, found.step)


@contextmanager
def converted(directory: Path, convert: Callable[[Path], None]) -> Iterator[Path]:
    """Let the main process write another form of a checkpoint beside it, for all to read; removed at the end.

    Raises:
        UserError: on every process, when `convert` raised it on the main one.
    """
    scratch = directory.parent / f".{directory.name}.consolidated"

    def write() -> None:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        convert(scratch)

    try:
        run_on_main(write)
        yield scratch
    finally:
        if world_size() > 1:
            dist.barrier()
        if rank() == 0:
            shutil.rmtree(scratch, ignore_errors=True)
