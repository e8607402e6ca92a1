"""A process that dies, hangs or gives up ends the whole job within a bounded time, with the cause on the last line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hybatch.training.survival.watchdog import JobFailed, Watchdog
from tests.processes import run_processes
from tests.training.small_run import losses, write_config
from tests.training.warm_process import ROOT, exit_codes, kill, log, start_run

LONG = {"steps": 100_000, "checkpoint_every_steps": 50, "heartbeat_seconds": 5}


def _wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _reports_loss_of(victim: int) -> str:
    try:
        with Watchdog(silence_seconds=3, step_minutes=10):
            import torch.distributed as dist

            if dist.get_rank() == victim:
                raise OSError("no more paper")
            dist.barrier()
    except (JobFailed, OSError) as error:
        # The group is broken: what comes after this function in the process would hang.
        Path(os.environ["WATCHDOG_REPORTS"], str(dist.get_rank())).write_text(f"{type(error).__name__}: {error}")
        os._exit(1)
    return "not reached"


@pytest.mark.parametrize("victim", [0, 1])
def test_what_ends_one_process_is_the_cause_that_the_others_report(
    victim: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_REPORTS", str(tmp_path))
    with pytest.raises(RuntimeError):
        run_processes(_reports_loss_of, 2, victim)
    assert (tmp_path / str(victim)).read_text() == "OSError: no more paper"
    assert (tmp_path / str(1 - victim)).read_text() == f"JobFailed: process {victim} ended: OSError: no more paper"


def _finish_one_after_the_other() -> str:
    with Watchdog(silence_seconds=2, step_minutes=10):
        time.sleep(3)
    return "well"


def test_processes_that_live_longer_than_the_bound_end_well() -> None:
    assert run_processes(_finish_one_after_the_other, 2) == ["well", "well"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_or_stops_ends_the_other(number: signal.Signals, victim: int, tmp_path: Path) -> None:
    config = write_config(tmp_path, training=LONG, validation={"corpora": []})
    processes = start_run(tmp_path, ["--config", str(config)], processes=2)
    try:
        _wait_for((tmp_path / "run" / "checkpoints" / "latest").exists, "no checkpoint")
        pid = processes[victim].pid
        assert pid is not None
        os.kill(pid, number)
        started = time.monotonic()
        processes[1 - victim].join(60)
        assert processes[1 - victim].exitcode == 75
        assert time.monotonic() - started < 30
        last_line = log(tmp_path, 1 - victim).splitlines()[-1]
        assert f"error (process {1 - victim}): " in last_line
        assert f"process {victim}" in last_line.removeprefix(f"error (process {1 - victim}): ")
        assert last_line.endswith("the same command goes on from the newest checkpoint")
    finally:
        kill(processes)


@pytest.mark.slow
def test_a_step_that_never_ends_is_bounded_and_its_stack_shown(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom hybatch.training.step.engine import StepEngine\nstep = StepEngine.step\n"
        "def hangs(engine, local):\n    if local.batch.step == 3:\n        time.sleep(1000)\n"
        "    return step(engine, local)\n"
        "StepEngine.step = hangs\nfrom hybatch.train import main\nsys.exit(main())"
    )
    config = write_config(tmp_path, training={"timeout_minutes": 0.05})
    finished = subprocess.run(
        [sys.executable, "-c", program, "--config", str(config)], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert finished.returncode == 75
    assert "in hangs" in finished.stderr
    assert "made no progress for 0.05 minutes after step 3" in finished.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_to_one_process_stops_all_with_a_checkpoint(number: signal.Signals, tmp_path: Path) -> None:
    config = write_config(tmp_path, training=LONG | {"checkpoint_every_steps": None}, validation={"corpora": []})
    processes = start_run(tmp_path, ["--config", str(config)], processes=2)
    metrics = tmp_path / "run" / "metrics.jsonl"
    _wait_for(lambda: metrics.exists() and metrics.stat().st_size, "no step")
    assert processes[1].pid is not None
    os.kill(processes[1].pid, number)
    assert exit_codes(processes, 60) == [128 + number, 128 + number], log(tmp_path)
    latest = (tmp_path / "run" / "checkpoints" / "latest").resolve().name
    assert losses(tmp_path / "run")[-1][0] == int(latest.removeprefix("step-"))
    assert f"stopped by {number.name}" in log(tmp_path)


@pytest.mark.slow
def test_a_signal_before_the_first_step_is_said_and_ends_all_processes(tmp_path: Path) -> None:
    config = write_config(tmp_path, training=LONG)
    processes = start_run(tmp_path, ["--config", str(config)], processes=2)
    _wait_for((tmp_path / "run" / "config.yaml").exists, "no output folder")
    for process in processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGUSR1)
    assert exit_codes(processes, 200) == [138, 138]  # started cold, they still read libraries from the disk
    for rank in (0, 1):
        assert "stopped by SIGUSR1" in log(tmp_path, rank).splitlines()[-1]


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_launcher(tmp_path: Path) -> None:
    config = write_config(tmp_path, training=LONG, validation={"corpora": []})
    accelerate = str(Path(sys.executable).parent / "accelerate")
    launcher = subprocess.Popen(
        [
            accelerate,
            "launch",
            "--config_file",
            "configs/accelerate/cpu-ddp.yaml",
            "--main_process_port",
            "0",
            "hybatch/train.py",
            "--config",
            str(config),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "hf")},
    )
    _wait_for((tmp_path / "run" / "checkpoints" / "latest").exists, "no checkpoint")
    workers = psutil.Process(launcher.pid).children(recursive=True)
    assert len(workers) == 2
    launcher.kill()
    launcher.wait()
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert (len(gone), alive) == (2, [])
