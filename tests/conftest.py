"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The parent of the real data sets; tests that need them are skipped, saying so, where it is not set."""
    value = os.environ.get("HYBATCH_DATA_DIR")
    if not value:
        pytest.skip("HYBATCH_DATA_DIR is not set: the real data sets are not at hand")
    return Path(value)


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep corpus indexes of one test out of the user's cache; within a test session they are shared."""
    monkeypatch.setenv("HYBATCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "hybatch-cache"))


@pytest.fixture(autouse=True)
def _accelerate_forgets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End what a test told accelerate, which keeps it for the life of the process: transformers' Trainer its bf16."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)
