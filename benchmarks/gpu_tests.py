"""Runs the CUDA tests group by group so that no hang, crash or sticky error costs the tests after it.

    python benchmarks/gpu_tests.py groups [--without-kernels]        names and seconds, in order
    python benchmarks/gpu_tests.py collect --tests DIR ... --folder DIR  deals the tests to the groups
    python benchmarks/gpu_tests.py run GROUP --folder DIR            runs one group
    python benchmarks/gpu_tests.py again --folder DIR                runs what failed with more to see
    python benchmarks/gpu_tests.py summary --folder DIR              says what became of them, in summary.json too

A group's tests share a process as long as all goes well. A test that takes too long is ended with its process, whose
stack goes to the log, and one that leaves the device unusable ends its process; a new one goes on with the tests that
have not begun, those of the same function last. What happened stands in DIR/GROUP.jsonl, written as it happens.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STARTING_SECONDS = 60.0
"""For torch, the collection and the device to be ready."""
SANITIZER = ("compute-sanitizer", "--error-exitcode", "9", "--launch-timeout", "60")
"""It waits for the first use of the device, before which torch is imported and tests are collected."""
MOST_REPEATED = 12
MOST_SANITIZED = 4


@dataclass(frozen=True)
class Test:
    """What the collection knows of a test; `path` is the file's."""

    id: str
    path: str
    marks: frozenset[str]

    @property
    def function(self) -> str:
        return self.id.partition("[")[0]


@dataclass(frozen=True)
class Group:
    """Tests that run one after the other, within so many seconds."""

    name: str
    seconds: int
    holds: Callable[[Test], bool]
    needs_kernels: bool = True


def _of_kernels(test: Test, op: str) -> bool:
    return "gpu" in test.marks and op in test.path.rpartition("tests/")[2]


def _is_rescoring(test: Test) -> bool:
    return _of_kernels(test, "ranking") and re.search("rescor|band", test.id) is not None


def _is_on_tensor_cores(test: Test) -> bool:
    return _of_kernels(test, "ranking") and re.search("tf32|bf16|fp16", test.id) is not None


# A test belongs to the first of these that holds it. They run in the order of ORDER, in which the kernels of every
# device come first: what the tensor cores do cannot keep them from being tested.
GROUPS = (
    Group("rescoring", 40, _is_rescoring),
    Group("tensor-cores", 50, _is_on_tensor_cores),
    Group("fp32", 45, lambda test: _of_kernels(test, "ranking")),
    Group("contrastive-hopper", 50, lambda test: _of_kernels(test, "contrastive") and "hopper" in test.path),
    Group("contrastive-generic", 35, lambda test: _of_kernels(test, "contrastive")),
    Group("interface", 40, lambda test: True, needs_kernels=False),
)
ORDER = ("fp32", "tensor-cores", "contrastive-hopper", "rescoring", "contrastive-generic", "interface")


def in_order() -> list[Group]:
    return [next(group for group in GROUPS if group.name == name) for name in ORDER]


def deal(tests: Sequence[Test]) -> dict[str, list[Test]]:
    """Each test that concerns a device goes to one group; slow ones to none."""
    dealt: dict[str, list[Test]] = {name: [] for name in ORDER}
    for test in tests:
        if ("gpu" in test.marks or "on-cuda" in test.id) and "slow" not in test.marks:
            dealt[next(group.name for group in GROUPS if group.holds(test))].append(test)
    return dealt


def collect(folder: Path, tests: Sequence[str]) -> int:
    found = folder / "collected.jsonl"
    found.unlink(missing_ok=True)
    status = subprocess.run(_pytest(*tests, "--collect-only", "-q", "--collect-to", str(found))).returncode
    lines = read_lines(found)
    dealt = deal([Test(line["id"], line["path"], frozenset(line["marks"])) for line in lines])
    plain = {name: [{"id": test.id, "path": test.path} for test in held] for name, held in dealt.items()}
    (folder / "groups.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
    print(*(f"{name}: {len(held)} tests" for name, held in dealt.items()), sep="\n")
    return status


def _pytest(*options: str) -> list[str]:
    configuration = ["-c", str(HERE.parent / "pyproject.toml"), "--rootdir", str(HERE.parent), "-p", "gpu_test_record"]
    # A collection of the whole folder is not stopped by one module that cannot be imported here.
    return [sys.executable, "-m", "pytest", *configuration, "--continue-on-collection-errors", *options]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a line cut short by a kill is left out."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def outcomes(record: Path) -> dict[str, dict[str, Any]]:
    """The last word on each test that began; without one it has hung, crashed or is running."""
    found: dict[str, dict[str, Any]] = {}
    for line in read_lines(record):
        found[line["id"]] = {"outcome": "lost", **line}
    return found


def run_tests(
    tests: list[dict[str, str]], record: Path, *, seconds: float, prefix: Sequence[str] = (), variables: Any = None
) -> None:
    """Run them all, in as many processes as it takes.

    Args:
        seconds: of one test at most.
        prefix: a command that runs another.
        variables: of the environment, added.
    """
    while True:
        begun = outcomes(record)
        lost = {Test(name, "", frozenset()).function for name, one in begun.items() if one["outcome"] == "lost"}
        waiting = [test for test in tests if test["id"] not in begun]
        waiting.sort(key=lambda test: test["id"].partition("[")[0] in lost)
        if not waiting:
            return
        only = record.with_suffix(".only")
        only.write_text("\n".join(test["id"] for test in waiting), encoding="utf-8")
        paths = dict.fromkeys(test["path"] for test in waiting)
        command = [*prefix, *_pytest("-v", "--only", str(only), "--record", str(record), *paths)]
        _watch(command, {**os.environ, **(variables or {})}, record, seconds)
        only.unlink()
        if len(outcomes(record)) == len(begun):
            print(f"no test of {len(waiting)} began", flush=True)
            return


def _watch(command: list[str], environment: dict[str, str], record: Path, seconds: float) -> None:
    """Run a command; end it and its children when nothing is recorded for too long, and when this process is ended."""
    process = subprocess.Popen(command, env=environment, process_group=0)

    def end(*_: object) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    size = size_at_start = _size(record)
    since = time.monotonic()
    while process.poll() is None:
        time.sleep(0.05)
        if _size(record) != size:
            size, since = _size(record), time.monotonic()
        if time.monotonic() - since > (seconds if size > size_at_start else max(seconds, STARTING_SECONDS)):
            print(f"nothing for {time.monotonic() - since:.0f} s: ended", flush=True)
            process.send_signal(signal.SIGABRT)  # pytest's fault handler tells where it hangs
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    signal.signal(signal.SIGTERM, before)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def run(folder: Path, name: str, seconds: float) -> int:
    """Run a group; 1 where a test failed or did not run, and where all were skipped."""
    tests = json.loads((folder / "groups.json").read_text(encoding="utf-8"))[name]
    record = folder / f"{name}.jsonl"
    run_tests(tests, record, seconds=seconds)
    found = outcomes(record)
    print(f"{name}: {counts(found)}, {len(tests) - len(found)} not run")
    passed = any(one["outcome"] == "passed" for one in found.values())
    return int(not passed or any(is_bad(one) for one in found.values()) or len(found) < len(tests))


def counts(found: dict[str, dict[str, Any]]) -> str:
    number = Counter(one["outcome"] for one in found.values())
    return ", ".join(f"{number[outcome]} {outcome}" for outcome in ("passed", "failed", "lost", "skipped"))


def is_bad(one: dict[str, Any]) -> bool:
    return one["outcome"] in ("failed", "lost")


def again(folder: Path, seconds: float) -> int:
    """The first bad case of each function: with kernels that are waited for, then in the sanitizer if it is there."""
    groups = json.loads((folder / "groups.json").read_text(encoding="utf-8"))
    bad: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}
    for name in ORDER:
        found = outcomes(folder / f"{name}.jsonl")
        for test in groups[name]:
            if test["id"] in found and is_bad(found[test["id"]]):
                bad.setdefault(test["id"].partition("[")[0], (test, found[test["id"]]))
    if not bad:
        print("nothing failed")
        return 0
    # Those that came to an end first: they have more to tell than those that hang.
    tests = [test for outcome in ("failed", "lost") for test, one in bad.values() if one["outcome"] == outcome]
    blocking = {"CUDA_LAUNCH_BLOCKING": "1"}
    run_tests(tests[:MOST_REPEATED], folder / "again-blocking.jsonl", seconds=seconds, variables=blocking)
    print(f"CUDA_LAUNCH_BLOCKING=1: {counts(outcomes(folder / 'again-blocking.jsonl'))}")
    if shutil.which(SANITIZER[0]) is None:
        print("no compute-sanitizer")
        return 0
    for number, test in enumerate(tests[:MOST_SANITIZED]):  # one process each: what it finds is told by its log
        record = folder / f"again-sanitizer-{number}.jsonl"
        run_tests([test], record, seconds=3 * seconds, prefix=SANITIZER)
        print(f"{test['id']} in the sanitizer: {counts(outcomes(record))}", flush=True)
    return 0


def summary(folder: Path) -> int:
    """Print and write what became of the tests, beside what `gpu.sh` wrote of the machine (machine.log)."""
    groups = json.loads((folder / "groups.json").read_text(encoding="utf-8"))
    bad, numbers = [], {}
    for name in ORDER:
        found = outcomes(folder / f"{name}.jsonl")
        numbers[name] = {**Counter(one["outcome"] for one in found.values()), "not run": len(groups[name]) - len(found)}
        print(f"{name}: {counts(found)}, {len(groups[name]) - len(found)} not run")
        bad += [
            {"id": one["id"], "outcome": one["outcome"], "error": _error(one)} for one in found.values() if is_bad(one)
        ]
    for one in bad:
        print(f"{one['outcome']}: {one['id']}: {one['error']}")
    log = folder / "machine.log"
    machine = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    told = {"machine": machine, "groups": numbers, "bad": bad}
    (folder / "summary.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0


def _error(one: dict[str, Any]) -> str:
    errors = [line for line in one.get("message", "").splitlines() if line.startswith("E ")]
    return errors[0][:200] if errors else "see its log"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["groups", "collect", "run", "again", "summary"])
    parser.add_argument("group", nargs="?", choices=ORDER)
    parser.add_argument("--without-kernels", action="store_true", help="groups: those that run without the libraries")
    parser.add_argument("--tests", nargs="+", default=[], help="collect: folders of tests")
    parser.add_argument("--folder", type=Path, help="of what is written")
    parser.add_argument(
        "--test-seconds", type=float, default=float(os.environ.get("TEST_SECONDS", 20)), help="of one test at most"
    )
    arguments = parser.parse_args()
    if arguments.action == "groups":
        groups = [group for group in in_order() if not (arguments.without_kernels and group.needs_kernels)]
        print(*(f"{group.name} {group.seconds}" for group in groups), sep="\n")
        return 0
    if arguments.action == "collect":
        return collect(arguments.folder, arguments.tests)
    if arguments.action == "run":
        return run(arguments.folder, arguments.group, arguments.test_seconds)
    if arguments.action == "again":
        return again(arguments.folder, arguments.test_seconds)
    return summary(arguments.folder)


if __name__ == "__main__":
    sys.exit(main())
