"""What killed processes left is put back or removed; what living ones keep is not touched."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

import pytest

from hybatch import leftovers
from hybatch.atomic import atomic_directory, atomic_file
from hybatch.leftovers import name_beside, recover


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("write", [atomic_file, atomic_directory])
def test_what_a_living_process_writes_is_left_and_a_dead_one_s_removed(write: type, tmp_path: Path) -> None:
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        with write(tmp_path / "best"):
            os.write(there, b"!")
            signal.pause()
    os.read(here, 1)
    [name] = _names(tmp_path)
    recover(tmp_path, alone=True)
    recover(tmp_path, name="best")
    assert _names(tmp_path) == [name]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    recover(tmp_path, name="other")
    assert _names(tmp_path) == [name]
    recover(tmp_path)
    assert _names(tmp_path) == []


def test_what_this_process_writes_elsewhere_in_the_folder_is_left(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "a") as a, atomic_file(tmp_path / "b") as b:
        (a / "x").write_text("")
        recover(tmp_path, alone=True)
        with atomic_directory(tmp_path / "a") as other:
            (other / "y").write_text("")
        b.write("whole")
    assert _names(tmp_path) == ["a", "b"]
    assert _names(tmp_path / "a") == ["x"]


def test_a_retired_folder_is_put_back_where_the_new_one_is_missing_and_else_removed(tmp_path: Path) -> None:
    for text in ("older", "newer"):
        retired = name_beside(tmp_path / "best", "retired")
        retired.mkdir()
        (retired / "a").write_text(text)
        recover(tmp_path)
        assert (tmp_path / "best" / "a").read_text() == "older"
        assert _names(tmp_path) == ["best"]


def test_what_earlier_versions_left_is_cleared_where_nobody_else_can_be_writing(tmp_path: Path) -> None:
    for name in (".best.retired-17", ".final.retired-17", ".final.partial-18", "final"):
        (tmp_path / name).mkdir()
    before = _names(tmp_path)
    recover(tmp_path)
    recover(tmp_path, name="final")
    assert _names(tmp_path) == before
    recover(tmp_path, alone=True)
    assert _names(tmp_path) == ["best", "final"]


def test_without_a_lock_that_speaks_for_its_owner_only_long_forsaken_things_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner may be on another machine, or the file system knows no locks."""
    monkeypatch.setattr(leftovers, "_boot", lambda: "0a1b2c")
    elsewhere = name_beside(tmp_path / "best", "partial")
    elsewhere.mkdir()
    monkeypatch.setattr(leftovers, "_boot", lambda: "0d0e0f")
    recover(tmp_path)
    assert _names(tmp_path) == [elsewhere.name]
    unlocked = name_beside(tmp_path / "best", "partial")
    unlocked.touch()

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    recover(tmp_path)
    assert _names(tmp_path) == sorted([elsewhere.name, unlocked.name])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3 * 24 * 60 * 60)
    recover(tmp_path)
    assert _names(tmp_path) == []


def test_other_hidden_files_are_not_taken_for_leftovers(tmp_path: Path) -> None:
    names = [
        ".best.partial",
        ".best.partial-",
        ".best.partial-abc",
        "best.partial-0a1b2c-0a1b2c",
        ".lock",
        ".step-1.retired",
    ]
    for name in names:
        (tmp_path / name).touch()
    recover(tmp_path, alone=True)
    assert _names(tmp_path) == sorted(names)


def test_no_two_writes_share_a_name_even_with_the_same_process_number(tmp_path: Path) -> None:
    assert len({name_beside(tmp_path / "best", "partial") for _ in range(100)}) == 100
