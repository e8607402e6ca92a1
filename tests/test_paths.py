"""Paths of configurations are expanded, or refused."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.paths import check_writable, expand_path, path_of


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


def test_paths_of_the_command_line_are_expanded_and_an_empty_one_is_not_the_working_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch")
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=path_of("--output"))
    assert parser.parse_args(["--output=~/results"]).output == Path.home() / "results"
    assert parser.parse_args(["--output", "$SCRATCH/results"]).output == Path("/scratch/results")
    assert parser.parse_args(["--output", "with space/results/"]).output == Path("with space/results")
    with pytest.raises(UserError, match="--output is empty: give a path"):
        parser.parse_args(["--output", ""])


def test_a_folder_that_can_be_made_is_accepted_and_left_unmade(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder", "--output")
    check_writable(tmp_path, "--output")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_by_its_option(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"--output .*taken is a file"):
        check_writable(tmp_path / "taken" / "below", "--output")
    # Nobody can make a file there, not even root.
    with pytest.raises(UserError, match="--output /proc/results: /proc cannot be written"):
        check_writable(Path("/proc/results"), "--output")
