"""Checkpoints by several processes, in the background and not."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist

from hybatch.errors import UserError
from hybatch.training.checkpoints.checkpoint import Description, read_checkpoint
from hybatch.training.checkpoints.folder import CheckpointFolder
from hybatch.training.checkpoints.surroundings import surroundings
from hybatch.training.checkpoints.writer import CheckpointWriter
from hybatch.training.strategy import Strategy
from tests.processes import run_processes


class _Shards:
    """Stands for a strategy of which every process writes its own file."""

    def __init__(self, *, held: threading.Event | None = None, fails_on: int | None = None) -> None:
        self.value = 0
        self._held = held
        self._fails_on = fails_on
        self._rank = dist.get_rank() if dist.is_initialized() else 0

    def save(self, directory: Path) -> None:
        self._write(directory, self.value)

    def snapshot(self) -> Callable[[Path], None]:
        value = self.value
        return lambda directory: self._write(directory, value)

    def _write(self, directory: Path, value: int) -> None:
        if self._held is not None:
            assert self._held.wait(60)
        if self._rank == self._fails_on:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        (directory / f"shard-{self._rank}").write_text(str(value))


def _describe(step: int) -> Description:
    where = surroundings(torch.device("cpu"), "none")
    return Description(step=step, state={}, model={}, fingerprints={}, surroundings=where, backbone_weights={})


def _writer(folder: Path, strategy: Any, *, background: bool = True) -> CheckpointWriter:
    return CheckpointWriter(CheckpointFolder(folder, keep=5), cast(Strategy, strategy), background=background)


def test_training_goes_on_and_the_checkpoint_holds_the_moment_it_was_asked_for(tmp_path: Path) -> None:
    held = threading.Event()
    strategy = _Shards(held=held)
    writer = _writer(tmp_path, strategy)
    writer.write(_describe(1), wait=False)
    strategy.value = 1
    assert writer.share_is_missing
    assert not (tmp_path / "step-00000001").exists()
    held.set()
    writer.write(_describe(2), wait=False)  # waits for the first
    writer.wait()
    assert [(tmp_path / f"step-0000000{step}" / "shard-0").read_text() for step in (1, 2)] == ["0", "1"]
    assert read_checkpoint(tmp_path / "latest").step == 2


def test_a_checkpoint_is_sealed_as_soon_as_no_share_is_missing(tmp_path: Path) -> None:
    writer = _writer(tmp_path, _Shards())
    writer.write(_describe(1), wait=False)
    while writer.share_is_missing:
        pass
    writer.seal()
    writer.seal()
    writer.wait()
    assert read_checkpoint(tmp_path / "latest").step == 1


def test_a_failure_in_the_background_surfaces_at_the_next_checkpoint(tmp_path: Path) -> None:
    strategy = _Shards()
    writer = _writer(tmp_path, strategy)
    writer.write(_describe(1), wait=True)
    strategy._fails_on = 0
    writer.write(_describe(2), wait=False)
    with pytest.raises(UserError, match=r"step-00000002: the disk is full; the last good .*step-00000001"):
        writer.write(_describe(3), wait=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-00000001"]


def _two_write(folder: str) -> list[str]:
    outcomes = []
    for step, (background, fails_on) in enumerate([(True, None), (False, None), (True, 1), (False, 1)], start=1):
        writer = _writer(Path(folder), _Shards(fails_on=fails_on), background=background)
        try:
            writer.write(_describe(step), wait=False)
            writer.wait()
            outcomes.append("written")
        except UserError as error:
            outcomes.append(str(error).split(": ")[1].split(";")[0])
        dist.barrier()
    return outcomes


def test_every_process_writes_its_share_and_the_failure_of_one_is_that_of_all() -> None:
    with tempfile.TemporaryDirectory() as folder:
        expected = ["written", "written", "the disk is full", "the disk is full"]
        assert run_processes(_two_write, 2, folder) == [expected, expected]
        for step in (1, 2):
            checkpoint = read_checkpoint(Path(folder, f"step-0000000{step}"))
            assert [(checkpoint.directory / f"shard-{rank}").read_text() for rank in (0, 1)] == ["0", "0"]
        assert sorted(os.listdir(folder)) == ["latest", "step-00000001", "step-00000002"]
