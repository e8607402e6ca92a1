"""Runs that are killed again and again end bitwise where an undisturbed run ends."""

from __future__ import annotations

import os
import random
import subprocess
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from hybatch.training.checkpoints.checkpoint import read_checkpoint
from tests.training.small_run import losses, read_metrics, write_config
from tests.training.warm_process import exit_codes, kill, log, start_run

STEPS = 60


def _config(folder: Path) -> Path:
    """A checkpoint after every step, so that a good part of the time is spent on writing them."""
    training = {"steps": STEPS, "checkpoint_every_steps": 1, "warmup_steps": 2, "heartbeat_seconds": 8}
    return write_config(folder, training=training)


def _undisturbed(folder: Path, config: Path, processes: int) -> Path:
    run = folder / "whole"
    started = start_run(folder, ["--config", str(config), "--output_dir", str(run)], processes=processes)
    assert exit_codes(started, 200) == [0] * processes, log(folder)
    return run


def _is_there_since(run: Path, pattern: str, start: float) -> bool:
    try:
        return any(path.stat().st_mtime > start for path in run.glob(pattern))
    except FileNotFoundError:  # a hidden folder that was renamed just now
        return True


def _kill_at_some_moment(processes: list[BaseProcess], run: Path, draw: random.Random) -> None:
    """Wait for one of the moments of a run, and a random while, then kill all processes, or only one of them."""
    moment = draw.choice(["anywhere", "training", "writing", "writing"])
    patterns = {"training": "metrics.jsonl", "writing": "checkpoints/.step-*.partial"}
    start = time.time()
    if moment in patterns:
        while all(process.is_alive() for process in processes) and time.time() < start + 60:
            if _is_there_since(run, patterns[moment], start):
                break
    time.sleep(draw.uniform(0, {"anywhere": 4.0, "training": 0.5, "writing": 0.02}[moment]))
    if len(processes) > 1 and moment != "anywhere" and draw.random() < 0.3:
        # The other notices by itself; while they still look for each other, that is the launcher's work.
        victim = draw.randrange(len(processes))
        kill([processes[victim]])
        codes = exit_codes(processes, 60)
        assert None not in codes
        assert codes[1 - victim] in (0, 75), log(run.parent, 1 - victim)
    kill(processes)


def _assert_same(one: Path, other: Path) -> None:
    for name in ("final", "best"):
        for file in ("model.safetensors", "README.md"):
            assert (one / name / file).read_bytes() == (other / name / file).read_bytes(), file
    assert losses(one) == losses(other)
    assert [step for step, _ in losses(one)] == list(range(1, STEPS + 1))
    validations = [[row for row in read_metrics(run) if "validation" in row] for run in (one, other)]
    assert validations[0] == validations[1]


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "kills"), [(1, 12), (2, 12)])
def test_a_run_killed_at_random_moments_ends_where_the_undisturbed_run_ends(
    processes: int, kills: int, tmp_path: Path
) -> None:
    config = _config(tmp_path)
    whole = _undisturbed(tmp_path, config, processes)
    run = tmp_path / "run"
    draw = random.Random(processes)
    killed = 0
    while killed < kills:
        started = start_run(tmp_path, ["--config", str(config)], processes=processes)
        _kill_at_some_moment(started, run, draw)
        killed += 1
        if (run / "final").exists():
            # It ended, or was killed after its end: the comparison holds all the same, and a new run takes the kills.
            _assert_same(whole, run)
            run.rename(tmp_path / f"run-{killed}")
        else:
            _latest_is_intact(run)
    started = start_run(tmp_path, ["--config", str(config)], processes=processes)
    assert exit_codes(started, 200) == [0] * processes, log(tmp_path)
    _assert_same(whole, run)


def _latest_is_intact(run: Path) -> None:
    latest = run / "checkpoints" / "latest"
    if latest.is_symlink():
        assert read_checkpoint(latest.resolve()).step == int(latest.resolve().name.removeprefix("step-"))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("background", [True, False])
def test_a_disk_that_fills_up_ends_the_run_with_the_last_checkpoint_intact(background: bool, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        # Every checkpoint is kept, until they fill the disk.
        training = {"steps": 100, "checkpoint_every_steps": 5, "keep_checkpoints": 100}
        training["checkpoint_in_background"] = background
        config = write_config(tmp_path, training=training, validation={"corpora": []}, output_dir=str(small / "run"))
        started = start_run(tmp_path, ["--config", str(config)])
        assert exit_codes(started, 200) == [2], log(tmp_path)
        last_line = log(tmp_path).splitlines()[-1]
        latest = (small / "run" / "checkpoints" / "latest").resolve()
        assert "the disk is full" in last_line
        assert f"the last good checkpoint is {latest}" in last_line
        assert read_checkpoint(latest).step > 0
        assert not list((small / "run" / "checkpoints").glob(".*"))
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_run_goes_on_from_the_one_before(tmp_path: Path) -> None:
    config = _config(tmp_path)
    whole = _undisturbed(tmp_path, config, 1)
    run = tmp_path / "run"
    started = start_run(tmp_path, ["--config", str(config)])
    while not (run / "checkpoints" / "step-00000020").exists():
        assert started[0].is_alive(), log(tmp_path)
    kill(started)
    # Not `latest`: the kill may have come between the newest checkpoint's renaming and that of the link.
    newest = max((run / "checkpoints").glob("step-*"))
    content = (newest / "optimizer.pt").read_bytes()
    (newest / "optimizer.pt").write_bytes(content[:-9] + bytes(9))
    started = start_run(tmp_path, ["--config", str(config)])
    assert exit_codes(started, 200) == [0], log(tmp_path)
    assert f"{newest} is damaged: optimizer.pt" in log(tmp_path)
    assert (run / "checkpoints" / f"damaged-{newest.name}").exists()
    _assert_same(whole, run)
