"""Files and folders appear whole or not at all, whenever a process is killed and whatever fails."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import hybatch.atomic
from hybatch.atomic import atomic_directory, atomic_file, replace_directory, write_text
from hybatch.errors import UserError
from hybatch.leftovers import recover
from tests.killed import failing_at_every_call, killed_before_every_call


def _write_folder(path: Path, text: str) -> None:
    with atomic_directory(path) as folder:
        (folder / "a").write_text(text)
        (folder / "below").mkdir()
        (folder / "below" / "b").write_text(text)


def _write_file(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text)


def _read(path: Path) -> str | None:
    """The text that a file or every file of a folder holds; None where there is nothing."""
    if not path.exists():
        return None
    files = [path] if path.is_file() else [path / "a", path / "below" / "b"]
    texts = {file.read_text() for file in files}
    assert len(texts) == 1
    return texts.pop()


def _reset(path: Path, text: str | None) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if text is not None:
        _write_folder(path, text)


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("before", ["one", None])
def test_a_folder_is_whole_whenever_the_process_is_killed(exchange: bool, before: str | None, tmp_path: Path) -> None:
    path = tmp_path / "best"
    found = set()
    _reset(path, before)
    for number in killed_before_every_call(lambda: _write_folder(path, "two"), exchange=exchange):
        if exchange:
            assert _read(path) in (before, "two"), number
        recover(tmp_path)
        found.add(_read(path))
        assert found <= {before, "two"}, number
        # The next start finds the place as tidy as if nobody had ever died there.
        assert {entry.name for entry in tmp_path.iterdir()} <= {"best"}, number
        _reset(path, before)
    assert number > 15
    assert found == {before, "two"}


def test_a_file_is_whole_whenever_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    _write_file(path, "one")
    for number in killed_before_every_call(lambda: _write_file(path, "two")):
        assert _read(path) in ("one", "two"), number
        recover(tmp_path)
        assert list(tmp_path.iterdir()) == [path], number
    assert _read(path) == "two"


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("before", ["one", None])
def test_whatever_fails_the_folder_is_as_it_was_or_the_write_has_succeeded(
    exchange: bool, before: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "best"
    _reset(path, before)
    failures = 0
    for raised in failing_at_every_call(lambda: _write_folder(path, "two"), exchange=exchange):
        assert _read(path) == (before if raised else "two")
        failures += raised is not None
        recover(tmp_path)
        assert {entry.name for entry in tmp_path.iterdir()} <= {"best"}
        _reset(path, before)
    assert failures > 10


def test_whatever_fails_before_the_rename_the_file_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    _write_file(path, "one")
    for raised in failing_at_every_call(lambda: _write_file(path, "two")):
        assert _read(path) == "one" or raised is None or _is_last_sync(raised)
        recover(tmp_path)
        assert list(tmp_path.iterdir()) == [path]
        _write_file(path, "one")


def _is_last_sync(error: OSError) -> bool:
    """Whether it came from syncing the parent, after the rename."""
    trace, names = error.__traceback__, []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return "_sync" in names


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    yield small
    subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("write", [_write_folder, _write_file])
def test_replacing_an_older_output_on_a_full_disk_leaves_it(write: object, small_disk: Path) -> None:
    assert callable(write)
    write(small_disk / "output", "x" * 400_000)
    with pytest.raises(OSError) as raised:
        write(small_disk / "output", "y" * 800_000)
    assert raised.value.errno == errno.ENOSPC
    assert _read(small_disk / "output") == "x" * 400_000
    assert [path.name for path in small_disk.iterdir()] == ["output"]


def test_a_folder_takes_the_place_of_a_link_not_of_what_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for target in ("elsewhere", "nowhere"):
        (tmp_path / "best").symlink_to(target)
        _write_folder(tmp_path / "best", "two")
        assert not (tmp_path / "best").is_symlink()
        assert _read(tmp_path / "best") == "two"
        replace_directory(tmp_path / "best", tmp_path / "done")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done", "elsewhere"]


def test_the_former_folder_stays_where_the_new_one_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hybatch.atomic, "_exchange", lambda one, other: False)
    _write_folder(tmp_path / "best", "one")
    with pytest.raises(FileNotFoundError):
        replace_directory(tmp_path / "not there", tmp_path / "best")
    assert _read(tmp_path / "best") == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o007, 0o660, 0o770)])
def test_files_have_the_mode_that_the_umask_says_whoever_wrote_them(
    umask: int, file_mode: int, folder_mode: int, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        with atomic_directory(tmp_path / "model") as folder:
            (folder / "1_Pooling").mkdir(mode=0o700)
            for name in ("model.safetensors", "1_Pooling/config.json"):
                (folder / name).touch(mode=0o600)
            (folder / "run.sh").touch(mode=0o700)
        _write_file(tmp_path / "results.json", "{}")
    finally:
        os.umask(before)
    modes = {path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes["model"] == modes["model/1_Pooling"] == folder_mode
    assert (
        modes["model/model.safetensors"] == modes["model/1_Pooling/config.json"] == modes["results.json"] == file_mode
    )
    assert modes["model/run.sh"] & 0o700 == 0o700


def test_a_small_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*config\.yaml: "):
        write_text(tmp_path / "taken" / "config.yaml", "a: 1")


def test_a_file_system_that_hands_no_folder_to_the_disk_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, synced = os.fsync, []

    def of_files_only(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isdir(path):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        synced.append(path)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_only)
    for text in ("one", "two"):
        _write_folder(tmp_path / "best", text)
        _write_file(tmp_path / "results.json", text)
        assert _read(tmp_path / "best") == _read(tmp_path / "results.json") == text
    assert len(synced) == 6


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
def test_a_file_that_cannot_be_handed_to_the_disk_is_no_success(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError) as raised:
        _write_folder(tmp_path / "best", "one")
    assert raised.value.errno == number
    assert list(tmp_path.iterdir()) == []
