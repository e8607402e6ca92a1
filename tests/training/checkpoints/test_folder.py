"""Checkpoints are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from hybatch.errors import UserError
from hybatch.leftovers import name_beside
from hybatch.training.checkpoints.checkpoint import Description, read_checkpoint
from hybatch.training.checkpoints.folder import CheckpointFolder
from hybatch.training.checkpoints.surroundings import surroundings
from hybatch.training.strategy.tensors import save_tensors

WHERE = surroundings(torch.device("cpu"), "none")


def _describe(step: int) -> Description:
    return Description(
        step=step,
        state={"best": step},
        model={"width": 2},
        fingerprints={"corpora.0": "f"},
        surroundings=WHERE,
        backbone_weights={"model.safetensors": "0a"},
    )


def _write(folder: CheckpointFolder, step: int) -> None:
    partial = folder.begin(step)
    (partial / "model.pt").write_bytes(b"weights" * step)
    (partial / "shards").mkdir()
    (partial / "shards" / "0.bin").write_bytes(b"shard")
    folder.finish(partial, _describe(step))


def test_what_was_written_comes_back_and_old_ones_go(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=2)
    for step in (5, 10, 15):
        _write(folder, step)
        assert (folder.directory / "latest").resolve() == folder.path(step).resolve()
    assert folder.steps() == [15, 10]
    newest = folder.newest_intact(print)
    assert newest is not None
    assert (newest.step, newest.state, newest.fingerprints) == (15, {"best": 15}, {"corpora.0": "f"})
    assert (newest.model, newest.backbone_weights) == ({"width": 2}, {"model.safetensors": "0a"})
    assert newest.surroundings == WHERE
    assert newest.surroundings.differences(WHERE) == []


def test_checkpoints_of_round_steps_are_kept_for_good(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1, keep_every=20)
    for step in (10, 20, 30, 40, 50):
        _write(folder, step)
    assert folder.steps() == [50, 40, 20]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "shard"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(damage: str, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    _write(folder, 1)
    _write(folder, 2)
    victim = folder.path(2) / {"manifest": "manifest.json", "shard": "shards/0.bin"}.get(damage, "model.pt")
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
    if damage != "manifest":
        assert str(victim.relative_to(folder.path(2))) in said[0]
    # The damaged one no longer counts: neither for the policy nor as the newest.
    assert folder.steps() == [1]
    assert (tmp_path / "latest").resolve() == folder.path(1).resolve()
    assert (tmp_path / "damaged-step-00000002").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_leaves_the_last_checkpoint_and_says_which(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        folder = CheckpointFolder(small, keep=1)
        _write(folder, 1)
        partial = folder.begin(2)
        with pytest.raises(OSError) as raised:
            save_tensors(partial / "model.pt", {"weight": torch.zeros(2_000_000)})
        assert raised.value.errno == errno.ENOSPC
        # The weights fit, the manifest does not.
        with pytest.raises(UserError, match=r"disk is full.*last good checkpoint is .*step-00000001"):
            folder.finish(partial, _describe(2))
        assert read_checkpoint(folder.path(1)).step == 1
        assert sorted(path.name for path in small.iterdir()) == ["latest", "step-00000001"]
        assert (small / "latest").resolve() == folder.path(1).resolve()
    finally:
        subprocess.run(["umount", small], check=True)


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    _write(folder, 1)
    (folder.begin(2) / "model.pt").write_bytes(b"half")
    folder.clean()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-00000001"]


@pytest.mark.parametrize("copied", ["all", "damaged", "alone"])
def test_a_copy_that_followed_the_link_goes_on_from_its_newest_checkpoint(copied: str, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "run", keep=2)
    _write(folder, 1)
    _write(folder, 2)
    copy = CheckpointFolder(tmp_path / "copy", keep=2)
    shutil.copytree(folder.directory, copy.directory)  # as cp -rL does
    if copied == "damaged":
        (copy.path(2) / "model.pt").write_bytes(b"other weights")
    elif copied == "alone":
        shutil.rmtree(copy.path(2))
    copy.clean()
    newest = copy.newest_intact(print)
    assert newest is not None
    assert newest.step == 2
    assert (copy.directory / "latest").is_symlink()
    assert (copy.directory / "latest").resolve() == copy.path(2).resolve()
    _write(copy, 3)
    assert copy.steps() == [3, 2]


def test_a_latest_that_is_neither_link_nor_checkpoint_is_set_aside(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    _write(folder, 1)
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").write_text("step-00000001")
    (tmp_path / "step-by-step.txt").touch()
    folder.clean()
    _write(folder, 2)
    assert (tmp_path / "latest").resolve() == folder.path(2).resolve()
    assert (tmp_path / "damaged-latest").exists()
    assert folder.steps() == [2, 1]


def test_a_checkpoint_that_was_moved_aside_for_a_new_one_of_its_step_is_put_back(tmp_path: Path) -> None:
    """On a file system that cannot exchange two names, killed between the two renames."""
    folder = CheckpointFolder(tmp_path, keep=2)
    _write(folder, 1)
    folder.path(1).rename(name_beside(folder.path(1), "retired"))
    folder.begin(1)
    folder.clean()
    newest = folder.newest_intact(print)
    assert newest is not None
    assert newest.step == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-00000001"]


def test_a_checkpoint_that_does_not_say_which_weights_its_run_started_from_is_intact(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=2)
    _write(folder, 5)
    path = folder.path(5) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["backbone_weights"]
    path.write_text(json.dumps(manifest))
    assert read_checkpoint(folder.path(5)).backbone_weights == {}


def test_changed_surroundings_are_spelt_out(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    _write(folder, 1)
    manifest = json.loads((folder.path(1) / "manifest.json").read_text(encoding="utf-8"))
    manifest["surroundings"]["processes"] = 8
    manifest["surroundings"]["versions"]["torch"] = "1.0"
    (folder.path(1) / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    changes = read_checkpoint(folder.path(1)).surroundings.differences(WHERE)
    assert changes == ["processes 8 -> 1", f"torch 1.0 -> {torch.__version__}"]


def test_a_file_system_without_links_has_checkpoints_and_no_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(self))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    folder = CheckpointFolder(tmp_path, keep=1)
    for step in (1, 2):
        _write(folder, step)
    newest = folder.newest_intact(print)
    assert newest is not None
    assert newest.step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]
