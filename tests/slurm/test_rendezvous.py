"""slurm/rendezvous.sh with a stand-in for scontrol."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Two nodes whose names do not resolve, as SLURM lists them and knows their addresses.
SCONTROL = """#!/usr/bin/env bash
case "$*" in
    "show hostnames gpu[07-08]") printf 'gpu07\\ngpu08\\n' ;;
    "show node gpu07 --oneliner") echo "NodeName=gpu07 Gres=gpu:8 NodeAddr=10.1.0.7 NodeHostName=gpu07" ;;
    *) exit 1 ;;
esac
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    program = tmp_path / "scontrol"
    program.write_text(SCONTROL, encoding="utf-8")
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    return kept | {"PATH": f"{tmp_path}:{kept['PATH']}", "SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "gpu[07-08]"}


def source(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    script = "set -euo pipefail; source slurm/rendezvous.sh; bash -c 'echo $MASTER_ADDR $MASTER_PORT'"
    return subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_processes_meet_at_the_first_nodes_address(environment: dict[str, str]) -> None:
    address, port = source(environment).stdout.split()
    assert address == "10.1.0.7"
    assert 20000 <= int(port) < 32000


def test_neighbouring_jobs_and_restarts_meet_at_ports_of_their_own(environment: dict[str, str]) -> None:
    variants = [{"SLURM_JOB_ID": str(job), "SLURM_RESTART_COUNT": str(n)} for job in (10, 11, 12) for n in (0, 1, 2)]
    ports = [source(environment | variant).stdout.split()[1] for variant in variants]
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize("nodes", ["", "gpu99"])
def test_without_a_known_first_node_the_job_ends_with_code_2(nodes: str, environment: dict[str, str]) -> None:
    finished = source(environment | {"SLURM_JOB_NODELIST": nodes})
    assert finished.returncode == 2
    assert "SLURM_JOB_NODELIST" in finished.stderr
