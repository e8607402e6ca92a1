"""The batch scripts on a real SLURM of two nodes: studies, preemption, dying nodes, refusals."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hybatch.train import main
from tests.slurm.cluster import Cluster, running_cluster, wait_until, why_unavailable
from tests.training.small_run import losses, read_metrics, write_config

pytestmark = pytest.mark.slow

GRID = "hybrid - 1\nhybrid - 2\nx-y - 1  # a rival\nx-x-mono - 1\n"
RUNS = ("hybrid--recipe--seed1", "hybrid--recipe--seed2", "x-y--recipe--seed1", "x-x-mono--recipe--seed1")
STEPS = 40
LEARNING_RATE = 1e-3


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a short name: sockets below it may have 108 characters."""
    path = Path(tempfile.mkdtemp(prefix="hybatch-slurm-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Cluster]:
    problem = why_unavailable()
    if problem:
        pytest.skip(problem)
    with running_cluster(folder / "cluster") as cluster:
        cluster.environment |= {"HYBATCH_CACHE_DIR": str(folder / "cache"), "ACCELERATE_CONFIG": _accelerate("cpu")}
        yield cluster


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    """A run of some seconds, long enough to be disturbed in its middle."""
    (folder / "recipe").mkdir()
    return write_config(
        folder / "recipe",
        model={"fresh": {"width": 64, "layers": 2, "heads": 2, "vocabulary_size": 500, "dropout": 0.0}},
        sampling={"batch_size": 64},
        training={
            "steps": STEPS,
            "chunk_size": 4,
            "learning_rate": LEARNING_RATE,
            "checkpoint_every_steps": 10,
        },
        validation={"corpora": []},
    )


@pytest.fixture(scope="module")
def study(cluster: Cluster, folder: Path, recipe: Path) -> tuple[str, str, str]:
    """The jobs of a whole study that has ended: sweep, evaluation, report."""
    grid = folder / "grid.txt"
    grid.write_text(GRID, encoding="utf-8")
    submitted = cluster.run(
        *("slurm/submit_study.sh", str(grid), "embedded", "--config", str(recipe)),
        SBATCH_OPTIONS=f"--cpus-per-task=1 --output={folder}/study-%A_%a.out",
        RUNS=str(folder / "runs"),
        RESULTS=str(folder / "results"),
    )
    sweep, evaluation, report = submitted.split()
    cluster.wait_for(report, 500)
    return sweep, evaluation, report


def test_an_array_of_four_runs_completes(cluster: Cluster, study: tuple[str, str, str], folder: Path) -> None:
    assert [cluster.job(f"{study[0]}_{index}", "JobState") for index in range(1, 5)] == ["COMPLETED"] * 4
    for name in RUNS:
        assert [step for step, _ in losses(folder / "runs" / name)] == list(range(1, STEPS + 1))
    kinds = {name: {row["kind"] for row in read_metrics(folder / "runs" / name)} for name in RUNS}
    assert kinds == dict(zip(RUNS, [{"x-x-mono", "x-y"}, {"x-x-mono", "x-y"}, {"x-y"}, {"x-x-mono"}], strict=True))


def test_the_report_job_finds_all_results(cluster: Cluster, study: tuple[str, str, str], folder: Path) -> None:
    assert cluster.job(study[2], "JobState") == "COMPLETED"
    report = (folder / "results" / "report" / "report.md").read_text(encoding="utf-8")
    for name in RUNS:
        assert name in report
        assert (folder / "results" / name / "embedded" / "results.json").is_file()


def test_a_preempted_job_requeues_and_ends_where_the_undisturbed_one_does(
    cluster: Cluster, study: tuple[str, str, str], folder: Path, recipe: Path
) -> None:
    run = folder / "preempted"
    job = _train(
        cluster, folder, recipe, run, "--nodelist=n1", "--config", "configs/samplers/hybrid.yaml", "--seed", "1"
    )
    _wait_for_step(cluster, run, 12)
    urgent = cluster.submit(
        *("--partition=urgent", "--nodelist=n1", "--exclusive", f"--output={folder}/urgent.out", "--wrap", "sleep 1")
    )
    assert cluster.wait_for(urgent, 120) == "COMPLETED"
    assert cluster.wait_for(job, 200) == "COMPLETED"
    assert cluster.job(job, "Restarts") == "1"
    assert "requeued: stopped with a checkpoint" in _log(folder / f"job-{job}.out")
    undisturbed = folder / "runs" / RUNS[0]
    assert _weights_file(run) == _weights_file(undisturbed)
    assert losses(run) == losses(undisturbed)


@pytest.fixture(scope="module")
def two_nodes(cluster: Cluster, folder: Path, recipe: Path) -> Path:
    """The folder of an undisturbed ZeRO-2 run on both nodes."""
    run = folder / "two-nodes"
    job = _train_on_two_nodes(cluster, folder, recipe, run)
    assert cluster.wait_for(job, 400) == "COMPLETED", _log(folder / f"job-{job}.out")
    return run


def test_a_two_node_zero2_run_equals_the_run_of_one_process(two_nodes: Path, folder: Path, recipe: Path) -> None:
    assert main(["--config", str(recipe), "--output_dir", str(folder / "alone")]) == 0
    one, two = load_file(folder / "alone/final/model.safetensors"), load_file(two_nodes / "final/model.safetensors")
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=0.1 * LEARNING_RATE, msg=name)
    for (step, alone), (same_step, together) in zip(losses(folder / "alone"), losses(two_nodes), strict=True):
        assert step == same_step
        assert together == pytest.approx(alone, rel=1e-4)


def test_a_node_that_dies_leads_to_a_requeue_and_the_run_ends_as_if_it_had_not(
    cluster: Cluster, two_nodes: Path, folder: Path, recipe: Path
) -> None:
    run = folder / "dying"
    job = _train_on_two_nodes(cluster, folder, recipe, run)
    _wait_for_step(cluster, run, 12)
    cluster.kill_node("n2")
    wait_until(lambda: cluster.job(job, "Restarts") == "1", "the job is requeued", 120, cluster.status)
    cluster.start_node("n2")
    assert cluster.wait_for(job, 300) == "COMPLETED", _log(folder / f"job-{job}.out")
    assert _weights_file(run) == _weights_file(two_nodes)
    assert losses(run) == losses(two_nodes)


def test_a_grid_line_that_does_not_parse_fails_every_task_before_training(
    cluster: Cluster, folder: Path, recipe: Path
) -> None:
    grid = folder / "bad.txt"
    grid.write_text("hybrid - 1\nhybird - 2\n", encoding="utf-8")
    output = f"--output={folder}/bad-%a.out"
    options = ("--array=1-2", "--cpus-per-task=1", output, "slurm/sweep_array.sbatch", str(grid))
    job = cluster.submit(*options, "--config", str(recipe), RUNS=str(folder / "bad"))
    for index in (1, 2):
        assert cluster.wait_for(f"{job}_{index}", 60) == "FAILED"
        assert cluster.job(f"{job}_{index}", "ExitCode") == "2:0"
        assert f"{grid}:2: there is no sampler 'hybird'" in _log(folder / f"bad-{index}.out")
    assert not (folder / "bad").exists()


@pytest.mark.parametrize(
    ("command", "state", "exit_code", "restarts"),
    [
        ("exit 0", "COMPLETED", "0:0", "0"),
        ("exit 2", "FAILED", "2:0", "0"),
        ("exit 1", "FAILED", "1:0", "0"),
        ("exit 75", "FAILED", "75:0", "1"),
        ("kill -KILL $$", "FAILED", "137:0", "1"),
        ("exit $((SLURM_RESTART_COUNT < 2 ? 138 : 0))", "COMPLETED", "0:0", "2"),
    ],
)
def test_what_became_of_the_work_decides_whether_the_job_goes_back_into_the_queue(
    command: str, state: str, exit_code: str, restarts: str, cluster: Cluster, folder: Path
) -> None:
    job = _submit_step(cluster, folder, command)
    assert cluster.wait_for(job, 60) == state
    assert (cluster.job(job, "ExitCode"), cluster.job(job, "Restarts")) == (exit_code, restarts)


def test_a_cancelled_job_stays_cancelled_whatever_its_work_says_at_the_end(cluster: Cluster, folder: Path) -> None:
    job = _submit_step(cluster, folder, "trap 'exit 143' TERM; touch $0.started; while sleep 0.1; do :; done")
    wait_until(lambda: cluster.job(job, "JobState") == "RUNNING", "the job runs", 30, cluster.status)
    wait_until((folder / "step.sh.started").exists, "the work has begun", 30, cluster.status)
    cluster.run("scancel", job)
    assert cluster.wait_for(job, 30) == "CANCELLED"
    wait_until(lambda: not cluster.run("squeue", "--noheader"), "the queue is empty", 30, cluster.status)
    assert cluster.job(job, "JobState") == "CANCELLED"


def _accelerate(name: str) -> str:
    return f"configs/accelerate/{name}.yaml"


def _train(cluster: Cluster, folder: Path, recipe: Path, run: Path, *options: str) -> str:
    """Submit train.sbatch; options for sbatch come first and have the form --name=value."""
    of_sbatch = [option for option in options if "=" in option]
    output = f"--output={folder}/job-%j.out"
    script = ("slurm/train.sbatch", "--config", str(recipe), "--output_dir", str(run))
    return cluster.submit(*of_sbatch, "--cpus-per-task=1", output, *script, *options[len(of_sbatch) :])


def _train_on_two_nodes(cluster: Cluster, folder: Path, recipe: Path, run: Path) -> str:
    resources = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1")
    script = ("slurm/train_multinode.sbatch", "--config", str(recipe), "--output_dir", str(run))
    output = f"--output={folder}/job-%j.out"
    return cluster.submit(*resources, output, *script, ACCELERATE_CONFIG=_accelerate("cpu-zero2"))


def _submit_step(cluster: Cluster, folder: Path, command: str) -> str:
    """Submit a batch script that does nothing but run a command through slurm/requeue.sh, restarted once at most."""
    step, script = folder / "step.sh", folder / "step.sbatch"
    step.write_text(f"SLURM_RESTART_COUNT=${{SLURM_RESTART_COUNT:-0}}\n{command}\n", encoding="utf-8")
    lines = ("#!/usr/bin/env bash", "set -euo pipefail", "source slurm/requeue.sh", f"run_step srun bash {step}")
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return cluster.submit(f"--output={folder}/step-%j.out", "--open-mode=append", str(script), MAX_RESTARTS="1")


def _wait_for_step(cluster: Cluster, run: Path, step: int) -> None:
    metrics = run / "metrics.jsonl"
    wait_until(
        lambda: metrics.exists() and len(metrics.read_text(encoding="utf-8").splitlines()) >= step,
        f"step {step} of {run}",
        200,
        cluster.status,
    )


def _log(path: Path) -> str:
    """What a job printed; a process that was killed may have left half a letter."""
    return path.read_text(encoding="utf-8", errors="replace")


def _weights_file(run: Path) -> bytes:
    return (run / "final" / "model.safetensors").read_bytes()
