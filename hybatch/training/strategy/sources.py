"""Read any strategy's checkpoint into the consolidated form."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from hybatch.training.strategy.consolidated import MOMENTS, Consolidated, Origin, converted
from hybatch.training.strategy.deepspeed.universal import read_zero
from hybatch.training.strategy.planted_code import check_shards

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
        return read_zero(directory)
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
