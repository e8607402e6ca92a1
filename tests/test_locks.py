"""One process at a time holds a file's lock."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from hybatch.locks import LockHeld, file_lock


def test_a_second_holder_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with (
        file_lock(path, patience_seconds=0) as lock,
        pytest.raises(LockHeld, match=rf"process {os.getpid()} on"),
        file_lock(path, patience_seconds=0.1),
    ):
        pass
    assert lock.held
    with file_lock(path, patience_seconds=0) as again:
        assert again.held


def test_a_lock_is_had_as_soon_as_its_holder_is_dead(tmp_path: Path) -> None:
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        with file_lock(tmp_path / ".lock", patience_seconds=0):
            os.write(there, b"!")
            time.sleep(0.3)
            os._exit(137)
    os.read(here, 1)
    with file_lock(tmp_path / ".lock", patience_seconds=30) as lock:
        assert lock.held
    os.waitpid(child, 0)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_told_from_a_lock_that_is_held(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with file_lock(tmp_path / ".lock", patience_seconds=0) as lock:
        assert not lock.held
        assert lock.missing == os.strerror(number)


def test_a_file_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError), file_lock(tmp_path / "missing" / ".lock", patience_seconds=0):
        pass
