"""Become one process of a training run: place and rendezvous from SLURM, strategy from accelerate's configuration.

    srun python slurm/join_run.py configs/accelerate/zero2.yaml --config RECIPE [--section.key VALUE ...]

SLURM starts every process itself, where `accelerate launch` would start them and stand between: it keeps signals and
turns every exit code into 1, but a batch script needs both. The environment that `accelerate launch` would have made
of its configuration is made here by accelerate's own functions; then this process becomes `python -m hybatch.train`.
The numbers of processes and machines are SLURM's, whatever the file says.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from hybatch.errors import UserError

# torch's name for each, and who sets what it is made of.
PLACE = {"RANK": "SLURM_PROCID", "LOCAL_RANK": "SLURM_LOCALID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS"}
RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT")


def main() -> int:
    """Replace this process by the training; 2 where it cannot be started."""
    try:
        if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
            raise UserError("name accelerate's configuration first: slurm/join_run.py CONFIG [training options]")
        environment = run_environment(Path(sys.argv[1]), os.environ)
        os.execve(sys.executable, [sys.executable, "-m", "hybatch.train", *sys.argv[2:]], environment)
    except UserError as error:
        print(f"error (process {os.environ.get('SLURM_PROCID', '?')}): {error}", file=sys.stderr, flush=True)
    return 2


def run_environment(config: Path, slurm: Mapping[str, str]) -> dict[str, str]:
    """The environment of one process.

    Args:
        config: a file of configs/accelerate.
        slurm: the environment that srun and the batch script made.

    Raises:
        UserError: a variable is missing, or the configuration is for one process and there are several.
    """
    place = rank_and_rendezvous(slurm)
    arguments, accelerate = accelerate_environment(config, processes=int(place["WORLD_SIZE"]))
    if arguments.use_deepspeed or arguments.use_fsdp or arguments.multi_gpu:
        return accelerate | place
    if place["WORLD_SIZE"] != "1":
        raise UserError(
            f"{config} is for one process, but SLURM started {place['WORLD_SIZE']}: name another, or ask for --nodes=1 "
            "--ntasks-per-node=1"
        )
    # A lone process with a meeting point would be taken for one of several whose launcher failed.
    return {name: value for name, value in accelerate.items() if name not in RENDEZVOUS}


def rank_and_rendezvous(slurm: Mapping[str, str]) -> dict[str, str]:
    """The variables that torch.distributed's env:// rendezvous reads.

    Raises:
        UserError: one of those that they are made of is missing.
    """
    needed = (*PLACE.values(), "SLURM_NODEID", "SLURM_STEP_TASKS_PER_NODE", *RENDEZVOUS)
    missing = [name for name in needed if not slurm.get(name)]
    if missing:
        raise UserError(
            f"{', '.join(missing)} not set: start this with srun (SLURM_*), after slurm/rendezvous.sh (MASTER_*)"
        )
    tasks = tasks_per_node(slurm["SLURM_STEP_TASKS_PER_NODE"])
    place = {name: slurm[source] for name, source in PLACE.items()} | {name: slurm[name] for name in RENDEZVOUS}
    return place | {"LOCAL_WORLD_SIZE": str(tasks[int(slurm["SLURM_NODEID"])])}


def tasks_per_node(text: str) -> list[int]:
    """Expand SLURM's notation: "2(x3),1" is [2, 2, 2, 1]."""
    counts: list[int] = []
    for tasks, nodes in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(tasks)] * int(nodes or 1)
    return counts


def accelerate_environment(config: Path, *, processes: int) -> tuple[argparse.Namespace, dict[str, str]]:
    """What `accelerate launch --config_file config` decides, and the environment that it would give its processes.

    Raises:
        UserError: accelerate does not take the file.
    """
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import (
        prepare_deepspeed_cmd_env,
        prepare_multi_gpu_env,
        prepare_simple_launcher_cmd_env,
    )

    if not config.is_file():
        raise UserError(f"accelerate's configuration {config} does not exist")
    # Port 0 keeps accelerate from looking whether its default port is free: the rendezvous is not its business here.
    options = ["--num_processes", str(processes), "--num_machines", "1", "--main_process_port", "0"]
    try:
        parsed = launch_command_parser().parse_args(["--config_file", str(config), *options, "hybatch.train"])
        arguments, defaults, mixed_precision_from_file = _validate_launch_command(parsed)
        if arguments.use_deepspeed:
            # They may stand only once, here or in DeepSpeed's own file; accelerate refuses both.
            fields = [*defaults.deepspeed_config, *(["mixed_precision"] if mixed_precision_from_file else [])]
            arguments.deepspeed_fields_from_accelerate_config = ",".join(fields)
            return arguments, prepare_deepspeed_cmd_env(arguments)[1]
        if arguments.use_fsdp or arguments.multi_gpu:
            return arguments, prepare_multi_gpu_env(arguments)
        return arguments, prepare_simple_launcher_cmd_env(arguments)[1]
    except (ValueError, KeyError, ImportError) as error:
        raise UserError(f"accelerate's configuration {config}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
