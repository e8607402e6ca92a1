"""What is made of the launcher's environment."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from hybatch.processes import PATIENCE
from hybatch.training.config import TrainingConfig
from hybatch.training.run.launch import build_accelerator


def test_no_process_gives_up_a_collective_before_the_watchdog_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launched = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "OMP_NUM_THREADS": "1"}
    launched |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    build_accelerator(TrainingConfig(trackers=[]), str(tmp_path))
    try:
        backend = dist.group.WORLD._get_backend(torch.device("cpu"))  # type: ignore[union-attr]
        assert backend.options._timeout == PATIENCE
    finally:
        dist.destroy_process_group()
