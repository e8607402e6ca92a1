"""A plugin of pytest for gpu_tests.py: which tests there are, which to run, what became of each as it happens."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

# After these no work on the device succeeds in the same process.
_STICKY = re.compile(r"CUDA error|CUDA_ERROR|cudaError|AcceleratorError|CUBLAS_STATUS|device-side assert")
_MOST_OF_A_MESSAGE = 4000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--collect-to", type=Path, help="write id, path and marks of every test, one JSON object a line")
    parser.addoption("--only", type=Path, help="run the tests of this file's ids, in its order")
    parser.addoption("--record", type=Path, help="append what happens, one JSON object a line")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.record is not None:
        config.pluginmanager.register(_Recorder(config.option.record))


def name_of(item: pytest.Item) -> str:
    """The node's id; pytest's own depends on what it was told to collect, for files outside of the root."""
    root = item.config.rootpath
    path = item.path.relative_to(root) if item.path.is_relative_to(root) else item.path
    return f"{path}::{item.nodeid.partition('::')[2]}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.collect_to is not None:
        with config.option.collect_to.open("w", encoding="utf-8") as file:
            for item in items:
                marks = sorted({mark.name for mark in item.iter_markers()})
                print(json.dumps({"id": name_of(item), "path": str(item.path), "marks": marks}), file=file)
    if config.option.only is not None:
        by_id = {name_of(item): item for item in items}
        wanted = config.option.only.read_text(encoding="utf-8").splitlines()
        items[:] = [by_id[name] for name in wanted if name in by_id]


class _Recorder:
    """Every line is with the system before the test goes on: a process that is killed has told all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_unusable = False
        self._names: dict[str, str] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._names = {item.nodeid: name_of(item) for item in session.items}

    def _write(self, **line: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write(id=self._names[nodeid], started=time.time())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        message = "" if report.passed else str(report.longrepr)
        self._is_unusable |= report.failed and _STICKY.search(message) is not None
        about = {"outcome": report.outcome, "seconds": report.duration, "message": message[-_MOST_OF_A_MESSAGE:]}
        self._write(id=self._names[report.nodeid], **about)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if self._is_unusable:
            pytest.exit(f"the device is unusable after {nodeid}", returncode=3)
