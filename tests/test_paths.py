"""Paths of configurations are expanded, or refused."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import hybatch.paths
from hybatch.cli import main
from hybatch.errors import UserError
from hybatch.paths import (
    cache_directory,
    check_new_folder,
    check_replaceable,
    check_writable,
    expand_path,
    folder_of,
    last_part,
    path_of,
)

# Commands whose output appears whole, with all that they need to be told before they look at it.
WHOLE = {
    "mine": ["--model", "no/such", "--corpus", "embedded", "--output"],
    "score": ["--teacher", "no/such", "--corpus", "no-such-folder", "--output"],
    "debias": ["--model", "no/such", "--fit", "embedded", "--method", "centre", "--output"],
    "average": ["no/such", "no/other", "--output"],
    "evaluate": ["--model", "no/such", "--task", "embedded", "--save-embeddings"],
}


def test_the_cache_is_where_its_variable_says_when_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_CACHE_DIR", "~/of/hybatch")  # as a container's environment or a job's file leaves it
    assert cache_directory() == Path.home() / "of" / "hybatch"
    monkeypatch.setenv("HYBATCH_CACHE_DIR", "$NOT_THERE/cache")
    with pytest.raises(UserError, match=r"HYBATCH_CACHE_DIR .*NOT_THERE is not set"):
        cache_directory()
    monkeypatch.setenv("HYBATCH_CACHE_DIR", "")
    assert cache_directory() == Path.home() / ".cache" / "hybatch"


def test_the_last_part_of_a_path_is_a_name_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run" / "final").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run" / "final")
    names = {".": "final", "..": "run", "../": "run", "runs/mine": "mine", "intfloat/e5": "e5", "labse": "labse"}
    assert {path: last_part(path) for path in names} == names


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


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder that a folder of the same file system is mounted at, as a container's volume is."""
    volume = tmp_path / "a volume"
    volume.mkdir()
    (tmp_path / "on the host").mkdir()
    command = ["mount", "--bind", str(tmp_path / "on the host"), str(volume)]
    try:
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this machine does not allow mounting")
    except FileNotFoundError:
        pytest.skip("this machine has no mount")
    yield volume
    subprocess.run(["umount", volume], check=True)


def test_a_folder_at_which_a_file_system_is_mounted_takes_no_other_s_place(mounted: Path) -> None:
    with pytest.raises(UserError, match=r"--output .*a volume: a file system is mounted there.* such as .*/new"):
        check_replaceable(mounted, "--output")
    check_writable(mounted, "--output")
    check_replaceable(mounted / "new", "--output")
    check_replaceable(mounted.parent / "on the host", "--output")


def test_a_folder_whose_parent_cannot_be_written_takes_no_other_s_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "output").mkdir()
    make = tempfile.TemporaryFile

    def refused_in_parent(dir: Path) -> object:
        if dir == tmp_path:
            raise PermissionError(13, "Permission denied")
        return make(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", refused_in_parent)
    check_writable(tmp_path / "output", "--output")
    with pytest.raises(UserError, match=r"the folder around it cannot be written .Permission denied.*new$"):
        check_replaceable(tmp_path / "output", "--output")


def test_a_new_folder_was_not_there_or_was_empty(tmp_path: Path) -> None:
    check_new_folder(tmp_path / "new", "--output")
    (tmp_path / "empty").mkdir()
    check_new_folder(tmp_path / "empty", "--output")
    with pytest.raises(UserError, match=r"--output .*: is there already"):
        check_new_folder(tmp_path, "--output")


@pytest.mark.parametrize("command", WHOLE)
def test_a_command_says_so_before_its_work(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hybatch.paths, "_is_mount_point", lambda folder: True)
    option = WHOLE[command][-1]
    assert main([command, *WHOLE[command], str(tmp_path)]) == 2
    assert f"error: {option} {tmp_path}: a file system is mounted there" in capsys.readouterr().err


def test_a_link_is_followed_to_the_folder_that_is_to_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for target in ("there", "not-yet"):
        (tmp_path / f"to-{target}").symlink_to(target)
    read = folder_of("--output")
    assert read(str(tmp_path / "to-there")) == tmp_path / "there"
    assert read(str(tmp_path / "to-not-yet")) == tmp_path / "not-yet"
    assert read("new/folder/") == Path("new/folder")


def test_a_link_to_nothing_is_no_folder_to_write_files_into(tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to("purged")
    for path in (tmp_path / "results", tmp_path / "results" / "run"):
        with pytest.raises(UserError, match=r"--output .*: .*results is a link that points to nothing"):
            check_writable(path, "--output")
