"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Every run of the tests draws the same examples, so that a commit is green or red and not both by turns.
# HYPOTHESIS_PROFILE=explore draws many others; what it finds becomes an `@example`.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", max_examples=1000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


# Files of tests that run side by side share the cores; not below two threads, by which results must not change.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_CORES = os.cpu_count() or 1
if (share := max(2, _CORES // _WORKERS)) < _CORES:
    os.environ.setdefault("OMP_NUM_THREADS", str(share))


# Files whose slow tests take minutes, longest first: begun last, one would keep a worker busy alone.
_LONGEST = (
    "training/strategy/test_equality.py",
    "slurm/test_cluster.py",
    "csrc/test_drivers.py",
    "training/survival/test_torture.py",
    "csrc/device_model/test_model.py",
    "test_train.py",
    "evaluation/test_real_data.py",
    "study/test_run_grid.py",
)
_PLACES = {Path(__file__).parent / file: place for place, file in enumerate(_LONGEST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _PLACES.get(item.path, len(_LONGEST)))


def pytest_sessionfinish() -> None:
    """What these tests leave to the end of the process, a worker of xdist never does."""
    if corpora := sys.modules.get("tests.sampling.corpora"):
        corpora.FOLDERS.cleanup()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The parent of the real data sets; tests that need them are skipped, saying so, where it is not set."""
    value = os.environ.get("HYBATCH_DATA_DIR")
    if not value:
        pytest.skip("HYBATCH_DATA_DIR is not set: the real data sets are not at hand")
    return Path(value)


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep indexes and figures of the tests out of the user's cache; within a test session they are shared."""
    monkeypatch.setenv("HYBATCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "hybatch-cache"))


@pytest.fixture(autouse=True)
def _accelerate_forgets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End what a test told accelerate, which keeps it for the life of the process: transformers' Trainer its bf16."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)
