"""Open a corpus: index it once into the cache, whoever comes first, then map it."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hybatch.atomic import atomic_directory
from hybatch.corpus.build import build_index
from hybatch.corpus.config import CorpusConfig
from hybatch.corpus.hub import DatasetSource
from hybatch.corpus.index import INDEX_FORMAT
from hybatch.corpus.jsonl import JsonlSource
from hybatch.corpus.mmarco import MmarcoFiles, build_mmarco_index, download_mmarco
from hybatch.corpus.mrtydi import mrtydi_source
from hybatch.corpus.parallel import ParallelCorpus
from hybatch.corpus.rows import RowSource, language_names
from hybatch.corpus.squad import SquadSource
from hybatch.errors import UserError
from hybatch.leftovers import recover
from hybatch.locks import file_lock
from hybatch.paths import expand_path

_EMBEDDED = "embedded"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_corpus(config: CorpusConfig, *, cache_dir: Path | None = None, progress: bool = True) -> ParallelCorpus:
    """Open a corpus, indexing it first unless the cache holds its index.

    The index is kept under a name made of the configuration and of the sources' sizes and times of change, and
    appears whole or not at all. Any number of processes may call this at once: one indexes, the others wait for it.

    Args:
        config: where the corpus comes from.
        cache_dir: where indexes are kept; by default HYBATCH_CACHE_DIR, else ~/.cache/hybatch.
        progress: show a progress bar with the time left while indexing.

    Raises:
        UserError: the source is missing or bad (the message names file and line), a variable of the path is not set,
            or the cache cannot be written.
    """
    path = expand_path(config.path, "corpora: path")
    kind = resolve_format(config, path)
    root = cache_dir or Path(os.environ.get("HYBATCH_CACHE_DIR") or Path.home() / ".cache" / "hybatch")
    last_part = Path(path.replace("{language}", "")).name or kind
    slug = re.sub(r"[^\w.-]", "-", last_part)
    directory = Path(root) / "corpora" / f"{slug}-{_cache_key(config, kind, path)}"
    if not directory.is_dir():
        _index_once(config, kind, path, directory, progress=progress)
    return ParallelCorpus(directory, name=config.name or last_part)


def resolve_format(config: CorpusConfig, path: str) -> str:
    """The format of the corpus at `path`, expanded: the one that is named, else what the files there are.

    Raises:
        UserError: nothing of any format is there.
    """
    if config.format != "auto":
        return config.format
    folder = Path(path)
    if path == _EMBEDDED:
        return _EMBEDDED
    if "{language}" in path or folder.is_file():
        return "datasets"
    if folder.is_dir():
        if any((root / "collections").is_dir() for root in (folder, folder / "google", folder / "data" / "google")):
            return "mmarco"
        if (
            any(folder.glob("*/state.json"))
            or any(folder.glob("*/dataset_dict.json"))
            or (folder / "state.json").is_file()
        ):
            return "datasets"
        for suffix, kind in ((".jsonl", "jsonl"), (".json", "squad")):
            if language_names(folder, suffix):
                return kind
        raise UserError(f"{path}: no <lang>.jsonl, <lang>.json or saved data set in this folder; name its `format`")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        if folder.parent.is_dir():
            raise UserError(
                f"{path}: no such folder or file in {folder.parent}/; mend the path, or say `format: datasets` if a "
                "data set of the hub is meant"
            )
        return "datasets"
    raise UserError(f"{path}: no such folder, and no hub id (owner/name)")


def _cache_key(config: CorpusConfig, kind: str, path: str) -> str:
    # Hub ids must not depend on the working folder, local paths must.
    where = os.path.abspath(path) if "{language}" in path or os.path.exists(path) else path
    settings: dict[str, Any] = asdict(config) | {"name": "", "format": kind, "path": where}
    settings["languages"] = sorted(set(config.languages)) if config.languages is not None else None
    content = json.dumps([INDEX_FORMAT, settings, _stamps(kind, path)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _stamps(kind: str, path: str) -> list[tuple[str, int, int]]:
    """(name, size, time of change) of every file of a source on this machine."""
    if kind == _EMBEDDED:
        path = str(Path(__file__).parent / "embedded")
    elif "{language}" in path:
        path = str(Path(path.split("{language}")[0] + "-").parent)
    root = Path(path)
    files = [root] if root.is_file() else (file for file in root.rglob("*") if file.is_file())
    stamps = []
    for file in files:
        if file.suffix != ".pyc":
            state = file.stat()
            stamps.append((str(file.relative_to(root)), state.st_size, state.st_mtime_ns))
    return sorted(stamps)


def _index_once(config: CorpusConfig, kind: str, path: str, directory: Path, *, progress: bool) -> None:
    with _cache_errors(directory), _lock(directory) as is_alone:
        recover(directory.parent, name=directory.name, alone=is_alone)
        if directory.is_dir():
            return
        with atomic_directory(directory) as partial:
            _write_index(config, kind, path, partial, progress=progress)


def _write_index(config: CorpusConfig, kind: str, path: str, directory: Path, *, progress: bool) -> None:
    if kind == "mmarco":
        folder = Path(path) if Path(path).is_dir() else download_mmarco(config, path)
        build_mmarco_index(MmarcoFiles(config, folder), directory, progress=progress)
        return
    build_index(_row_source(config, kind, path), directory, progress=progress)


def _row_source(config: CorpusConfig, kind: str, path: str) -> RowSource:
    if kind in ("jsonl", "squad") and not Path(path).is_dir():
        raise UserError(f"{path}: no such folder")
    if kind == "jsonl":
        return JsonlSource(Path(path), config.languages)
    if kind == "squad":
        return SquadSource(Path(path), config.languages)
    if kind == "datasets":
        return DatasetSource(config, path)
    if kind == "mrtydi":
        return mrtydi_source(config, path)
    if kind == _EMBEDDED:
        from hybatch.corpus.embedded_source import EmbeddedSource

        return EmbeddedSource(config.languages)
    raise UserError(f"format {kind!r} is unknown")


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
            raise UserError(f"{place}: cannot be read ({error.strerror})") from error
        raise UserError(f"{directory.parent}: the index cannot be written ({error}); {mend}") from error
