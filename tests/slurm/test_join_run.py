"""Where a process of a SLURM step finds the others, and which strategy it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybatch.errors import UserError
from slurm.join_run import rank_and_rendezvous, run_environment, tasks_per_node

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "accelerate"
# The second process of the third of four nodes, with 2 + 2 + 2 + 1 processes.
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "20007",
}
ALONE = SLURM | dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0")
ALONE |= {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1"}


@pytest.mark.parametrize(
    ("text", "counts"), [("1", [1]), ("2(x3),1", [2, 2, 2, 1]), ("8(x2)", [8, 8]), ("3,12(x2)", [3, 12, 12])]
)
def test_tasks_per_node_are_expanded(text: str, counts: list[int]) -> None:
    assert tasks_per_node(text) == counts


def test_the_place_of_a_process_comes_from_slurm() -> None:
    place = rank_and_rendezvous(SLURM)
    assert place == {
        "RANK": "5",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "7",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "20007",
    }


@pytest.mark.parametrize("name", sorted(SLURM))
def test_a_missing_rendezvous_variable_is_named(name: str) -> None:
    with pytest.raises(UserError, match=name):
        rank_and_rendezvous({key: value for key, value in SLURM.items() if key != name})


def test_the_program_ends_with_code_2_and_says_which_process_misses_what() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "MASTER"))}
    environment |= {key: value for key, value in SLURM.items() if key != "MASTER_ADDR"}
    command = [sys.executable, "slurm/join_run.py", str(CONFIGS / "ddp.yaml"), "--config", "any"]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert "error (process 5): MASTER_ADDR not set" in finished.stderr


def test_a_configuration_for_several_processes_takes_their_number_from_slurm() -> None:
    environment = run_environment(CONFIGS / "cpu-ddp.yaml", SLURM)
    assert environment["WORLD_SIZE"] == "7"
    assert "ACCELERATE_USE_DEEPSPEED" not in environment


def test_a_deepspeed_configuration_keeps_choosing_the_stage() -> None:
    environment = run_environment(CONFIGS / "cpu-zero2.yaml", SLURM)
    assert environment["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert environment["RANK"] == "5"


@pytest.mark.slow
@pytest.mark.parametrize("config", ["cpu-ddp.yaml", "cpu-zero2.yaml", "cpu-fsdp.yaml"])
def test_a_process_is_told_what_accelerate_launch_would_tell_it(config: str, tmp_path: Path) -> None:
    script = tmp_path / "environment.py"
    script.write_text(f"import json, os\njson.dump(dict(os.environ), open('{tmp_path}/' + os.environ['RANK'], 'w'))\n")
    options = ["--config_file", str(CONFIGS / config), "--num_processes", "2", "--main_process_port", "0"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", *options, str(script)]
    subprocess.run(launch, cwd=ROOT, check=True, capture_output=True, timeout=200)
    told = json.loads((tmp_path / "1").read_text())
    two = {"SLURM_PROCID": "1", "SLURM_NODEID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
    environment = run_environment(CONFIGS / config, SLURM | two)
    prefixes = ("ACCELERATE_", "FSDP_")
    expected = {name: value for name, value in told.items() if name.startswith(prefixes)}
    assert expected == {name: value for name, value in environment.items() if name.startswith(prefixes)}
    assert {name: environment[name] for name in ("RANK", "WORLD_SIZE")} == {"RANK": "1", "WORLD_SIZE": "2"}


def test_one_process_gets_no_rendezvous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", "20007")  # from the batch script
    environment = run_environment(CONFIGS / "cpu.yaml", ALONE)
    assert not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} & environment.keys()
    assert environment["ACCELERATE_USE_CPU"].lower() == "true"


def test_a_configuration_for_one_process_is_refused_where_slurm_started_several() -> None:
    with pytest.raises(UserError, match=r"cpu\.yaml is for one process, but SLURM started 7"):
        run_environment(CONFIGS / "cpu.yaml", SLURM)


def test_a_configuration_that_accelerate_does_not_take_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml does not exist"):
        run_environment(tmp_path / "none.yaml", SLURM)
    bad = tmp_path / "bad.yaml"
    bad.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: TELEPATHY\n")
    with pytest.raises(UserError, match=r"bad\.yaml"):
        run_environment(bad, SLURM)
