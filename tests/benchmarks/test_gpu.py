"""The script that tests and times on a GPU, rehearsed on a CPU: what fails, hangs or is killed costs nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bench_contrastive
import bench_ranking
import gpu_tests
import pytest

from tests.benchmarks.rehearsal import REPOSITORY, Rehearsal

SCRIPT = str(REPOSITORY / "benchmarks" / "gpu.sh")

KERNEL_TESTS = """
import os, signal, time
import pytest
pytestmark = pytest.mark.gpu

def test_that_passes(): pass
@pytest.mark.parametrize("case", ["hangs", "good"])
def test_that_hangs(case):
    if case == "hangs": time.sleep(1000)
def test_that_breaks_the_device():
    if "CUDA_LAUNCH_BLOCKING" not in os.environ: raise RuntimeError("CUDA error: an illegal memory access")
def test_after_it(): pass
def test_that_crashes(): os.kill(os.getpid(), signal.SIGSEGV)
def test_of_tf32(): pass
def test_rescoring_in_bf16(): pass
"""
OTHER_TESTS = """
import pytest
@pytest.mark.parametrize("place", ["cpu-on-cpu", "torch-on-cuda"])
def test_of_places(place): pass
@pytest.mark.gpu
@pytest.mark.slow
def test_that_takes_long(): assert False
"""
BENCHMARKS = """
short_benchmark() { bench small 60 bench_contrastive.py --sizes 32 --width 8 --rounds 1 --processes 0 --what forward; }
benchmarks() {
    step fails 5 false
    step hangs 1 sh -c 'echo {} >$results/figures.json; sleep 1000'
    step last 5 echo at the end
}
"""


@pytest.fixture
def rehearsal(tmp_path: Path) -> Rehearsal:
    for name, text in (("ranking", KERNEL_TESTS), ("contrastive", OTHER_TESTS)):
        (tmp_path / "tests" / name).mkdir(parents=True)
        (tmp_path / "tests" / name / f"test_{name}.py").write_text(text, encoding="utf-8")
    (tmp_path / "benchmarks.sh").write_text(BENCHMARKS, encoding="utf-8")
    variables = {"TESTS": tmp_path / "tests", "BENCHMARKS": tmp_path / "benchmarks.sh"}
    limits = {"TEST_SECONDS": "2", "PATIENCE": "4", "LIMIT_S": "800"}
    instead = {"LIBRARIES": "true", "DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    return Rehearsal(tmp_path, {**{name: str(path) for name, path in variables.items()}, **limits, **instead})


def last_lines(archive: dict[str, str], group: str) -> dict[str, str]:
    """What became of each test of a group, by its name."""
    lines = map(json.loads, archive[f"{group}.jsonl"].splitlines())
    return {line["id"].rpartition("::")[2]: line.get("outcome", "lost") for line in lines}


@pytest.mark.slow
def test_a_hang_a_crash_and_a_broken_device_cost_no_other_test_and_come_again(rehearsal: Rehearsal) -> None:
    process = rehearsal.start(SCRIPT, "test")
    output, _ = process.communicate(timeout=800)
    assert process.returncode != 0
    archive, steps = rehearsal.archive(), rehearsal.steps()
    assert last_lines(archive, "fp32") == {
        "test_that_passes": "passed",
        "test_that_hangs[hangs]": "lost",
        "test_that_hangs[good]": "passed",
        "test_that_breaks_the_device": "failed",
        "test_after_it": "passed",
        "test_that_crashes": "lost",
    }, output
    assert "test_that_hangs" in archive["test-fp32.log"].partition("Current thread")[2]  # where it hung
    assert last_lines(archive, "tensor-cores") == {"test_of_tf32": "passed"}
    assert last_lines(archive, "rescoring") == {"test_rescoring_in_bf16": "passed"}
    assert last_lines(archive, "interface") == {"test_of_places[torch-on-cuda]": "passed"}
    assert last_lines(archive, "again-blocking") == {
        "test_that_hangs[hangs]": "lost",
        "test_that_breaks_the_device": "passed",
        "test_that_crashes": "lost",
    }
    assert archive["again.log"].count("in the sanitizer\n") == 3
    assert "torch with CUDA and a device: MISSING; nothing can be tested" in archive["needs.log"]
    assert steps["bench-small"] == "0"
    assert json.loads(archive["small.json"])["finished"]
    assert "test_that_breaks_the_device: E " in archive["summary.log"]


def test_benchmarks_go_on_after_one_that_hangs_whose_figures_come_back(rehearsal: Rehearsal) -> None:
    rehearsal.variables["STEPS"] = "libraries fails hangs last"
    process = rehearsal.start(SCRIPT, "bench")
    process.communicate(timeout=60)
    assert process.returncode == 124
    assert rehearsal.steps() == {"libraries": "0", "fails": "1", "hangs": "124", "last": "0"}
    assert rehearsal.archive()["figures.json"] == "{}\n"
    assert rehearsal.archive()["last.log"] == "at the end\n"


def test_every_benchmark_of_the_script_takes_its_options() -> None:
    listed = "bench() { printf '%s\\0' \"$@\"; echo; }; step() { :; }; source benchmarks/gpu_benchmarks.sh"
    command = ["bash", "-c", f"{listed}; short_benchmark; benchmarks"]
    lines = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.splitlines()
    for line in lines:
        name, seconds, script, *options = line.rstrip("\0").split("\0")
        module = {"bench_ranking.py": bench_ranking, "bench_contrastive.py": bench_contrastive}[script]
        assert module.parse(["--json", f"{name}.json", "--device", "cuda", *options])
        assert 0 < int(seconds) <= 120
    assert len({line.partition("\0")[0] for line in lines}) == len(lines) > 5


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_call_that_is_stopped_or_killed_leaves_its_finished_steps(
    rehearsal: Rehearsal, how: signal.Signals, tmp_path: Path
) -> None:
    steps = "source benchmarks/steps.sh; begin call; step first 9 echo done; step second 9 sleep 1000; finish"
    process = rehearsal.start("bash", "-c", f"cd {REPOSITORY}; {steps}")
    while "first" not in (process.stdout.readline() if process.stdout else ""):
        pass
    time.sleep(0.3)
    process.send_signal(how)
    assert process.wait(10) == (143 if how == signal.SIGTERM else -signal.SIGKILL)
    assert rehearsal.archive()["first.log"] == "done\n"
    assert ("stopped by SIGTERM" in rehearsal.steps()) == (how == signal.SIGTERM)


def test_steps_end_at_their_limit_and_leave_to_others_what_is_reserved(rehearsal: Rehearsal) -> None:
    rehearsal.variables |= {"LIMIT_S": "7", "PATIENCE": "1"}
    steps = [
        "begin call",
        "reserve=6; step waits 9 true",
        "reserve=0; step hangs 1 sh -c 'echo begun; sleep 1000'",
        "step next 9 echo here",
        "SECONDS=3; step too-late 9 true; finish",
    ]
    process = rehearsal.start("bash", "-c", f"cd {REPOSITORY}; source benchmarks/steps.sh; {'; '.join(steps)}")
    process.communicate(timeout=20)
    assert process.returncode == 124
    expected = {"waits": "no time left", "hangs": "124", "next": "0", "too-late": "no time left"}
    assert rehearsal.steps() == expected
    assert rehearsal.archive()["hangs.log"] == "begun\n"


@pytest.mark.slow
def test_every_test_that_concerns_a_device_is_in_one_group(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "gpu_tests.py"), "collect"]
    tests = ["--tests", "tests/ops", "--folder", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'benchmarks'}"}
    subprocess.run([*command, *tests], check=True, cwd=REPOSITORY, capture_output=True, env=environment)
    groups = json.loads((tmp_path / "groups.json").read_text(encoding="utf-8"))
    assert list(groups) == list(gpu_tests.ORDER)
    assert all(groups.values())
    everything = [json.loads(line) for line in (tmp_path / "collected.jsonl").read_text(encoding="utf-8").splitlines()]
    of_a_device = {one["id"] for one in everything if "gpu" in one["marks"] and "slow" not in one["marks"]}
    dealt = [test["id"] for tests in groups.values() for test in tests]
    assert of_a_device <= set(dealt)
    assert len(dealt) == len(set(dealt))
