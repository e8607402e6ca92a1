"""Paths of configurations are expanded, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.paths import expand_path


def test_variables_and_the_home_folder_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch")
    assert expand_path("$SCRATCH/run", "output_dir") == "/scratch/run"
    assert expand_path("${SCRATCH}/run/", "output_dir") == "/scratch/run"
    assert expand_path("~/run", "output_dir") == str(Path.home() / "run")
    assert expand_path("/", "output_dir") == "/"


@pytest.mark.parametrize("path", ["$NOT_THERE/run", "${NOT_THERE}/run"])
def test_an_unset_variable_is_named_with_its_option(path: str) -> None:
    with pytest.raises(UserError, match=r"output_dir .*NOT_THERE\}? is not set"):
        expand_path(path, "output_dir")
