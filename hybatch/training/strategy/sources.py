"""Read any strategy's checkpoint into the consolidated form."""

from __future__ import annotations

import contextlib
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from hybatch.errors import UserError
from hybatch.training.strategy.consolidated import MOMENTS, Consolidated, Origin, converted
from hybatch.training.strategy.planted_code import check_shards, tensors_only

ZERO_FOLDER = "zero"
"""Sub-folder with DeepSpeed's own checkpoint."""
SHARDS_FOLDER = "shards"
"""Sub-folder with the shards of FSDP2, in the format of torch.distributed.checkpoint."""


def names_of_groups(learning: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> list[list[str]]:
    """Names of the parameters of each of the optimizer's groups, in order."""
    names = {id(parameter): name for name, parameter in learning.items()}
    return [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]


def read_consolidated(directory: Path, group_names: list[list[str]]) -> Consolidated:
    """Read a checkpoint; collective.

    Args:
        directory: what any strategy's `save` wrote.
        group_names: names of the parameters of each of the optimizer's groups, in order; replicated strategies number
            them so.

    Raises:
        UserError: DeepSpeed is needed to read it and not installed.
    """
    strategy = Origin.read(directory).strategy
    if strategy.startswith("zero"):
        return _read_zero(directory)
    if strategy == "fsdp2":
        return _read_shards(directory)
    return _read_replicated(directory, group_names)


def _read_replicated(directory: Path, group_names: list[list[str]]) -> Consolidated:
    weights = torch.load(directory / "model.pt", map_location="cpu", weights_only=True)
    states = torch.load(directory / "optimizer.pt", map_location="cpu", weights_only=True)["state"]
    names = [name for group in group_names for name in group]
    moments = {names[i]: {key: state[key] for key in MOMENTS} for i, state in states.items()}
    return Consolidated(weights, moments, float(states[0]["step"]) if states else 0.0)


def _read_shards(directory: Path) -> Consolidated:
    def convert(scratch: Path) -> None:
        check_shards(directory / SHARDS_FOLDER)
        dcp_to_torch_save(directory / SHARDS_FOLDER, scratch / "whole.pt")

    with converted(directory, convert) as scratch:
        whole = torch.load(scratch / "whole.pt", map_location="cpu", weights_only=True)
    moments = {name: {key: whole[key][name] for key in MOMENTS} for name in whole["weights"]}
    return Consolidated(whole["weights"], moments, float(whole["step"]))


def _read_zero(directory: Path) -> Consolidated:
    """Through DeepSpeed's universal format: one folder per parameter, whatever the stage and number of processes."""
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
