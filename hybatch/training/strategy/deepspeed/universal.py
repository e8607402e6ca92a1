"""Read DeepSpeed's checkpoints into the consolidated form."""

from __future__ import annotations

import contextlib
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybatch.errors import UserError
from hybatch.training.strategy.consolidated import MOMENTS, Consolidated, converted
from hybatch.training.strategy.planted_code import tensors_only

ZERO_FOLDER = "zero"
"""Sub-folder with DeepSpeed's own checkpoint."""


def read_zero(directory: Path) -> Consolidated:
    """Through DeepSpeed's universal format: one folder per parameter, whatever the stage and number of processes.

    Raises:
        UserError: DeepSpeed is not installed.
    """
    with converted(directory, lambda scratch: _to_universal(directory / ZERO_FOLDER, scratch)) as scratch:
        folders = {path.parent for path in (scratch / "zero").rglob("fp32.pt")}
        found = {str(folder.relative_to(scratch / "zero")).removeprefix("encoder."): folder for folder in folders}
        weights = {name: _tensor(folder / "fp32.pt") for name, folder in found.items()}
        learning = {name: folder for name, folder in found.items() if (folder / "exp_avg.pt").exists()}
        moments = {name: {key: _tensor(folder / f"{key}.pt") for key in MOMENTS} for name, folder in learning.items()}
        steps = [_tensor(folder / "step.pt") for folder in learning.values() if (folder / "step.pt").exists()]
    return Consolidated(weights, moments, float(steps[0]) if steps else 0.0)


def _to_universal(source: Path, target: Path) -> None:
    try:
        from deepspeed.checkpoint import ds_to_universal
    except ImportError as error:
        raise UserError(
            f"{source} was written by DeepSpeed, which reading it needs: pip install 'hybatch[deepspeed]'"
        ) from error
    # Stages 1 and 2 lack a record that only tensor-parallel models fill; injecting an empty one is DeepSpeed's own way.
    arguments = Namespace(
        input_folder=str(source),
        output_folder=str(target),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with tensors_only(source), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ds_to_universal.main(arguments)


def _tensor(path: Path) -> Tensor:
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    return torch.as_tensor(content["param"] if isinstance(content, dict) else content).detach().clone()
