"""Open a corpus: index it once into the cache, whoever comes first, then map it."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hybatch.atomic import atomic_directory
from hybatch.corpus.config import CorpusConfig
from hybatch.corpus.formats.entry import FormatEntry
from hybatch.corpus.formats.registry import find_format
from hybatch.corpus.index.adoption import adopt, adopt_fields
from hybatch.corpus.index.folder import Index
from hybatch.corpus.index.integrity import DamagedIndexError, check_contents
from hybatch.corpus.parallel import ParallelCorpus
from hybatch.errors import UserError
from hybatch.leftovers import recover
from hybatch.locks import file_lock
from hybatch.paths import cache_directory, expand_path

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_corpus(config: CorpusConfig, *, cache_dir: Path | None = None, progress: bool = True) -> ParallelCorpus:
    """Open a corpus, indexing it first unless the cache holds its index.

    The index is kept under a name made of the configuration and of the sources' sizes and times of change, and
    appears whole or not at all. Any number of processes may call this at once: one indexes, the others wait for it.
    An index whose files are not what was written is made anew, with a line on stderr that says so. One made before the
    format knew some field is compared with its source, once, and stays if the source has no such field.

    Args:
        config: where the corpus comes from.
        cache_dir: where indexes are kept; by default HYBATCH_CACHE_DIR, else ~/.cache/hybatch.
        progress: show a progress bar with the time left while indexing.

    Raises:
        UserError: the source is missing or bad (the message names file and line), a variable of the path is not set,
            or the cache cannot be written.
    """
    path = expand_path(config.path, "corpora: path")
    entry = find_format(config, path)
    root = cache_dir or cache_directory()
    slug = re.sub(r"[^\w.-]", "-", Path(path.replace("{language}", "")).name or entry.name)
    directory = Path(root) / "corpora" / f"{slug}-{_cache_key(config, entry, path)}"
    with _cache_errors(directory):
        if not _is_fresh(directory, entry.fields, progress=progress):
            _mend_or_make(config, entry, path, directory, progress=progress)
    return ParallelCorpus(directory, name=config.name or _last_part(path) or entry.name)


def _last_part(path: str) -> str:
    """What a corpus is called: of `faq/{language}.csv` faq, as of the folder faq."""
    place = Path(path)
    if place.name.partition(".")[0] == "{language}":
        place = place.parent
    return Path(str(place).replace("{language}", "")).name


def _cache_key(config: CorpusConfig, entry: FormatEntry, path: str) -> str:
    # Hub ids must not depend on the working folder, local paths must.
    where = os.path.abspath(path) if "{language}" in path or os.path.exists(path) else path
    settings: dict[str, Any] = asdict(config) | {"name": "", "format": entry.name, "path": where}
    for name in ("weight", "query_prefix", "passage_prefix"):
        del settings[name]  # says nothing of the content
    if config.positives == "apart":
        del settings["positives"]  # as in versions that had nothing else
    settings["languages"] = sorted(set(config.languages)) if config.languages is not None else None
    stamps = _stamps(entry.source(path), entry.reads(path))
    content = json.dumps([entry.reading(path), settings, stamps], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _stamps(root: Path, read: Iterable[Path]) -> list[tuple[str, int, int]]:
    """(name, size, time of change) of every file of a source on this machine, of what links point to.

    Args:
        root: what the names are relative to.
        read: files, and folders of which all files count.
    """
    stamps = []
    for file in (file for path in read for file in _files(path)):
        if file.suffix == ".pyc":
            continue
        # What is gone, or cannot be looked at, is another program's, or is named when it is read.
        with suppress(OSError):
            state = file.stat()
            if stat.S_ISREG(state.st_mode):
                stamps.append((str(file.relative_to(root)), state.st_size, state.st_mtime_ns))
    return sorted(stamps)


def _files(path: Path) -> Iterator[Path]:
    """The file, or what a folder holds, at any depth and behind links; each folder once, however links lead to it."""
    if not path.is_dir():
        yield path
        return
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(path, followlinks=True):
        subfolders.sort()
        if (real := os.path.realpath(folder)) in seen:
            subfolders.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in names)


def _is_fresh(directory: Path, fields: frozenset[str], *, progress: bool) -> bool:
    """Whether a folder holds an index whose files are what was written, by a reader that knew the `fields`.

    One of an earlier version may have to be adopted first.
    """
    try:
        index = Index(directory)
        if index.files is None or not fields <= index.fields:
            return False
        check_contents(directory, index.files, progress=progress)
    except DamagedIndexError:
        return False
    return True


def _mend_or_make(config: CorpusConfig, entry: FormatEntry, path: str, directory: Path, *, progress: bool) -> None:
    with _lock(directory) as is_alone:
        recover(directory.parent, name=directory.name, alone=is_alone)
        index = _whole_index(directory, progress=progress)
        if index is not None and entry.fields <= index.fields:
            return
        if index is not None:
            names = ", ".join(sorted(entry.fields - index.fields))
            line = f"{directory}: the index was made by a reader without {names}; its source is read again"
            print(line, file=sys.stderr, flush=True)
        with suppress(_SameContent), atomic_directory(directory) as partial:
            entry.build(config, path, partial, fields=entry.fields, progress=progress)
            if index is not None and Index(partial).fingerprint == index.fingerprint:
                adopt_fields(index, entry.fields)
                raise _SameContent


class _SameContent(Exception):
    """What was made anew is what stood there, which stays."""


def _whole_index(directory: Path, *, progress: bool) -> Index | None:
    """The index in a folder, adopted if it is of version 0.1.0; None where there is none, or a damaged one: said."""
    if not directory.is_dir():
        return None
    try:
        index = Index(directory)
        if index.files is None:
            recover(directory)
            adopt(index, progress=progress)
        check_contents(directory, index.files or {}, progress=progress)
    except DamagedIndexError as error:
        print(f"{error}: the index is damaged and is made anew", file=sys.stderr, flush=True)
        return None
    return index


@contextmanager
def _lock(directory: Path) -> Iterator[bool]:
    """Let one process at a time write an index; whether that is sure.

    Where the file system knows no locks, several may write the same one, and the last one's stays.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(directory.with_name(f".{directory.name}.lock"), patience_seconds=math.inf) as lock:
        yield lock.held


@contextmanager
def _cache_errors(directory: Path) -> Iterator[None]:
    """Say in the user's terms what is wrong with the cache folder."""
    mend = "set HYBATCH_CACHE_DIR to a folder with room that can be written"
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise UserError(f"{directory.parent}: no room left for the index; {mend}") from error
        place = Path(error.filename or directory)
        if not (place.is_relative_to(directory.parent) or directory.is_relative_to(place)):
            raise UserError(f"{place}: cannot be read ({error.strerror or error})") from error
        raise UserError(f"{directory.parent}: the index cannot be written ({error}); {mend}") from error
