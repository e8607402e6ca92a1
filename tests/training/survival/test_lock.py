"""One run at a time in an output folder."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.leftovers import name_beside
from hybatch.training.config import load_run_config
from hybatch.training.run.run_folder import RunFolder, claimed
from hybatch.training.survival import lock
from hybatch.training.survival.lock import folder_lock
from tests.training.small_run import write_config


def test_a_second_run_is_refused_and_told_who_holds_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_PATIENCE_SECONDS", 0.2)
    said: list[str] = []
    with (
        folder_lock(tmp_path / "run", said.append),
        pytest.raises(UserError, match=rf"in use by another run \(process {os.getpid()} on"),
        folder_lock(tmp_path / "run", said.append),
    ):
        pass
    with folder_lock(tmp_path / "run", said.append):
        pass
    assert said == []


def test_a_holder_that_dies_lets_go(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with folder_lock(tmp_path, print):
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    with folder_lock(tmp_path, print):
        pass


def test_a_file_system_without_locks_is_said_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    said: list[str] = []
    with folder_lock(tmp_path, said.append):
        assert len(said) == 1
        assert "knows no locks" in said[0]


def test_what_a_killed_run_left_beside_its_outputs_is_cleared_before_the_next_one_starts(tmp_path: Path) -> None:
    config = load_run_config(["--config", str(write_config(tmp_path))])
    folder = RunFolder(config)
    with claimed(folder, config, print):
        (folder.directory / "metrics.jsonl").touch()
    for name in (".initial.partial-7", name_beside(folder.final, "partial").name, ".best.retired-7"):
        (folder.directory / name).mkdir()
        (folder.directory / name / "model.safetensors").touch()
    name_beside(folder.metrics, "partial").touch()
    with claimed(folder, config, print):
        names = sorted(path.name for path in folder.directory.iterdir())
    assert names == [".lock", "best", "config.yaml", "metrics.jsonl"]
    assert (folder.best / "model.safetensors").exists()
