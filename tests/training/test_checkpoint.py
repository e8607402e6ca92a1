"""Checkpoints are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybatch.errors import UserError
from hybatch.training.checkpoint import CheckpointFolder, read_checkpoint, save_tensors, surroundings

WHERE = surroundings(torch.device("cpu"))


def _writes(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.pt").write_bytes(content) and None


def _write(folder: CheckpointFolder, step: int, save: Callable[[Path], None] | None = None) -> None:
    save = save or _writes(b"weights" * step)
    folder.write(step, save, state={"best": step}, fingerprints={"corpora.0": "f"}, where=WHERE)


def test_what_was_written_comes_back_and_old_ones_go(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=2)
    for step in (5, 10, 15):
        _write(folder, step)
        assert (folder.directory / "latest").resolve() == folder.path(step).resolve()
    assert folder.steps() == [15, 10]
    newest = folder.newest_intact(print)
    assert newest is not None
    assert (newest.step, newest.state, newest.fingerprints) == (15, {"best": 15}, {"corpora.0": "f"})
    assert newest.surroundings == WHERE
    assert newest.surroundings.differences(WHERE) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(damage: str, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    _write(folder, 1)
    _write(folder, 2)
    victim = folder.path(2) / ("manifest.json" if damage == "manifest" else "model.pt")
    content = victim.read_bytes()
    if damage == "remove":
        victim.unlink()
    else:
        victim.write_bytes(content[:-1] if damage != "flip" else content[:-1] + bytes([content[-1] ^ 1]))
    said: list[str] = []
    newest = folder.newest_intact(said.append)
    assert newest is not None
    assert newest.step == 1
    assert "step-00000002" in said[0]
    if damage in ("flip", "cut"):
        assert "model.pt" in said[0]


def test_a_full_disk_leaves_the_last_checkpoint_and_says_which(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    _write(folder, 1)

    def disk_is_full(directory: Path) -> None:
        (directory / "model.pt").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match=r"disk is full.*step-00000001"):
        _write(folder, 2, disk_is_full)
    assert read_checkpoint(folder.path(1)).step == 1
    assert (tmp_path / "latest").resolve() == folder.path(1).resolve()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-00000001"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_really_full_disk_is_reported_the_same_way(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        folder = CheckpointFolder(small, keep=1)

        def save_tensor(numbers: int) -> Callable[[Path], None]:
            return lambda directory: save_tensors(directory / "model.pt", {"weight": torch.zeros(numbers)})

        _write(folder, 1, save_tensor(1000))
        with pytest.raises(UserError, match="disk is full"):
            _write(folder, 2, save_tensor(2_000_000))
        assert read_checkpoint(folder.path(1)).step == 1
    finally:
        subprocess.run(["umount", small], check=True)


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    _write(folder, 1)
    (tmp_path / ".step-00000002.partial-77").mkdir()
    (tmp_path / ".step-00000002.partial-77" / "model.pt").write_bytes(b"half")
    folder.clean()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-00000001"]


def test_changed_surroundings_are_spelt_out(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    _write(folder, 1)
    manifest = json.loads((folder.path(1) / "manifest.json").read_text(encoding="utf-8"))
    manifest["surroundings"]["processes"] = 8
    manifest["surroundings"]["versions"]["torch"] = "1.0"
    (folder.path(1) / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    changes = read_checkpoint(folder.path(1)).surroundings.differences(WHERE)
    assert changes == ["processes 8 -> 1", f"torch 1.0 -> {torch.__version__}"]
