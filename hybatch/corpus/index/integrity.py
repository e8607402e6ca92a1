"""Whether the files of an index are what was written: their sizes at every opening, their bytes once a state of them.

Sizes and checksums stand in `index.json`. Which state of the files had the right bytes is remembered beside it, in
`verified.json`: size, times of change and inode of every file. So an index is read whole when it is first opened after
a copy, a restore or a change, and never again. What a disk turns round without a trace in these goes unseen.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash
from tqdm import tqdm

from hybatch.atomic import atomic_file

VERIFIED = "verified.json"
_BYTES_AT_ONCE = 1 << 22


class DamagedIndexError(Exception):
    """A file of an index is missing or not as it was written; `path` is the file, `problem` says what is wrong."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


def describe_file(path: Path, bar: tqdm | None = None) -> dict[str, Any]:
    """Size in bytes and checksum of a file, as `index.json` keeps them."""
    digest = xxhash.xxh3_128()
    size = 0
    with open(path, "rb") as file:
        while block := file.read(_BYTES_AT_ONCE):
            digest.update(block)
            size += len(block)
            if bar is not None:
                bar.update(len(block))
    return {"bytes": size, "xxh3_128": digest.hexdigest()}


def checksum_of(content: Mapping[str, Any]) -> str:
    """The checksum of a JSON object, of all that it holds but its own `checksum`."""
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return str(xxhash.xxh3_128_hexdigest(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode()))


def check_sizes(directory: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare the sizes of `files`, name -> what `describe_file` gave.

    Raises:
        DamagedIndexError: a file is missing or of another size.
    """
    for name, described in files.items():
        path = directory / name
        if not path.is_file():
            raise DamagedIndexError(path, "the file is missing")
        if path.stat().st_size != described["bytes"]:
            raise DamagedIndexError(path, f"{path.stat().st_size} bytes, {described['bytes']} were written")


def check_contents(directory: Path, files: Mapping[str, Mapping[str, Any]], *, progress: bool) -> None:
    """Compare the checksums of `files`, unless their present state is remembered as the right one.

    Raises:
        DamagedIndexError: a file holds other bytes, or cannot be read.
    """
    if is_verified(directory, files):
        return
    total = sum(described["bytes"] for described in files.values())
    with tqdm(
        desc=f"checking {directory.name}",
        total=total,
        unit="B",
        unit_scale=True,
        delay=2,
        disable=not progress,
        dynamic_ncols=True,
    ) as bar:
        for name, described in files.items():
            try:
                found = describe_file(directory / name, bar)
            except OSError as error:
                raise DamagedIndexError(directory / name, f"cannot be read ({error.strerror})") from error
            if found != described:
                raise DamagedIndexError(directory / name, "other bytes than were written (checksum)")
    remember_verified(directory, files)


def is_verified(directory: Path, files: Mapping[str, Any]) -> bool:
    """Whether the files are still in the state in which their bytes were found right."""
    try:
        remembered = json.loads((directory / VERIFIED).read_text(encoding="utf-8"))
        return bool(remembered == _states(directory, files))
    except (OSError, ValueError):
        return False


def remember_verified(directory: Path, files: Mapping[str, Any]) -> None:
    """Remember that the files in their present state have the right bytes; a folder that is only read forgets it."""
    with contextlib.suppress(OSError), atomic_file(directory / VERIFIED) as file:
        json.dump(_states(directory, files), file)


def _states(directory: Path, files: Mapping[str, Any]) -> dict[str, list[int]]:
    states = {name: (directory / name).stat() for name in files}
    return {name: [s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for name, s in states.items()}
