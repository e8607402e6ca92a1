"""What a write keeps beside its destination meanwhile, and what a killed one leaves there for the next start to clear.

Of NAME there may stand, beside it,

- `.NAME.partial-OWNER`: a file or folder that is being written, or removed: never of use once its owner is dead;
- `.NAME.retired-OWNER`: the former NAME, always whole, while a new one takes its place on a file system that cannot
  exchange two names in one step. Where NAME is missing, its owner died before the new one was there.

OWNER is the machine's boot and a number drawn for this one write: no two writes share it, not even those of a killed
process and its successor in a container, which have the same process number. The owner holds a lock on what it keeps
there, which the kernel lets go of however the process ends: that tells the living from the dead. (Earlier versions
wrote the process number there and held no lock.)
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

from hybatch.locks import Lock, LockHeld, lock_now

Kind = Literal["partial", "retired"]
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<kind>partial|retired)-((?P<boot>[0-9a-f]{6})-[0-9a-f]{6}|[0-9]+)")
# Whether an owner lives that no lock speaks for (on another machine, before the last boot, where the file system knows
# no locks) is settled by time: nothing here takes so long between two changes to what it writes.
_FORSAKEN_SECONDS = 24 * 60 * 60.0
_POLL_SECONDS = 0.05


def name_beside(path: Path, kind: Kind) -> Path:
    """A new name beside `path`."""
    return path.with_name(f".{path.name}.{kind}-{_boot()}-{os.urandom(3).hex()}")


@contextmanager
def kept_beside(path: Path, *, is_folder: bool) -> Iterator[Path]:
    """Make an empty file or folder beside `path` and hold it while the block runs, whatever name it takes meanwhile.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        partial = name_beside(path, "partial")
        try:
            if is_folder:
                partial.mkdir()
            else:
                partial.touch(exist_ok=False)
        except FileExistsError:
            continue
        lock = _lock_on(partial)
        if lock is not None:
            break
        # Whoever cleared away leftovers just then held it, and has removed it.
    try:
        yield partial
    finally:
        os.close(lock.descriptor)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold what stands at `path` while the block runs, whatever name it takes meanwhile; waits for another holder.

    Raises:
        OSError: it cannot be opened, or is gone.
    """
    if path.is_symlink():  # cannot be locked
        yield
        return
    while (lock := _lock_on(path)) is None:
        os.lstat(path)
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        os.close(lock.descriptor)


def discard(path: Path) -> None:
    """Remove a file, link or folder as far as that is possible; what is left is not taken for anything whole."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def recover(directory: Path, *, name: str | None = None, alone: bool = False) -> None:
    """Put back or remove what dead processes left in a folder; what living ones keep there is not touched.

    Args:
        directory: nothing happens where there is none.
        name: only what was kept for this file or folder; None: for any, but for what earlier versions left, whose
            names are less telling.
        alone: nobody else can be writing here, since the caller holds a lock that all writers need: whatever holds no
            lock is a leftover.
    """
    try:
        found = [(entry, match) for entry in os.listdir(directory) if (match := _LEFTOVER.fullmatch(entry))]
    except OSError:
        return
    for entry, match in sorted(found):
        if name is not None and match["name"] != name:
            continue
        if match["boot"] is None and name is None and not alone:
            continue
        with _abandoned(directory / entry, match["boot"], alone=alone) as is_abandoned:
            if is_abandoned:
                _clear(directory / entry, directory / match["name"], match["kind"])


@cache
def recover_once(directory: Path) -> None:
    """`recover`, the first time that this process asks for it."""
    recover(directory)


def _clear(leftover: Path, path: Path, kind: str) -> None:
    try:
        if kind == "retired" and not os.path.lexists(path):
            os.rename(leftover, path)
            return
        if kind == "retired":
            # Half removed it must not pass for whole.
            doomed = name_beside(path, "partial")
            os.rename(leftover, doomed)
            leftover = doomed
    except OSError:
        return  # another user's; nothing is lost by leaving it
    discard(leftover)


@contextmanager
def _abandoned(path: Path, boot: str | None, *, alone: bool) -> Iterator[bool]:
    """Whether the owner of `path` is dead, or its machine; if so, the block holds it."""
    try:
        lock = _lock_on(path)
    except OSError:
        # A link, or another user's.
        yield os.path.islink(path) and (alone or _is_forsaken(path))
        return
    if lock is None:
        yield False
        return
    try:
        yield alone or (lock.held and boot == _boot()) or _is_forsaken(path)
    finally:
        os.close(lock.descriptor)


def _lock_on(path: Path) -> Lock | None:
    """Open what stands at `path` and take its lock, if there are locks; None where another has it, or it is gone.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        # Over NFS a file must be open for writing to be locked; a folder cannot be.
        access = os.O_RDONLY if path.is_dir() else os.O_RDWR
        descriptor = os.open(path, access | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        lock = lock_now(descriptor)
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            return lock
    except (LockHeld, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _is_forsaken(path: Path) -> bool:
    """Whether nothing in it has changed for a long time."""
    try:
        newest = max(part.lstat().st_ctime for part in (path, *path.rglob("*")))
    except OSError:
        return False
    return time.time() - newest > _FORSAKEN_SECONDS


@cache
def _boot() -> str:
    """6 hex digits that tell this machine since it was started from any other; containers on it share them."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        text = socket.gethostname()
    return f"{zlib.crc32(text.encode()) & 0xFFFFFF:06x}"
