"""What opening a corpus knows of a format: how its files are told, what an index depends on, how it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hybatch.corpus.index.build import build_index
from hybatch.corpus.rows import RowSource

if TYPE_CHECKING:
    from hybatch.corpus.config import CorpusConfig


class Build(Protocol):
    """Writes the index of the corpus at `path`, expanded, into the empty folder `directory`.

    The index notes `fields`, those of the format.

    Raises:
        UserError: the source is missing or bad; the message names file and line.
        OSError: the folder cannot be written or the disk is full.
    """

    def __call__(
        self, config: CorpusConfig, path: str, directory: Path, *, fields: frozenset[str], progress: bool
    ) -> None: ...


def below(path: str) -> Path:
    """The file or folder at `path`; of a path with `{language}` the folder that holds what fills it."""
    return Path(path.split("{language}")[0] + "-").parent if "{language}" in path else Path(path)


def matching(path: str) -> list[Path]:
    """What is there under a path, `{language}` in it being any name, in alphabetical order."""
    pattern = Path(path.replace("{language}", "*"))
    return sorted(Path(pattern.anchor or ".").glob(str(pattern.relative_to(pattern.anchor))))


def read_below(path: str) -> list[Path]:
    """The file or folder at `path`; of a path with `{language}` what fills it."""
    return matching(path) if "{language}" in path else [Path(path)]


@dataclass(frozen=True, kw_only=True)
class FormatEntry:
    """One format by name."""

    name: str
    """What `format` calls it."""
    description: str
    """What is read, in one line."""
    recognises: Callable[[str], bool] = lambda path: False
    """Whether the corpus at this path, expanded, is of the format where none is named."""
    source: Callable[[str], Path] = below
    """The file or folder that the corpus is in; need not exist."""
    reads: Callable[[str], Iterable[Path]] = read_below
    """Of it the files, and the folders with all their files, whose sizes and times of change name the index. What else
    stands there, the folder of a run perhaps, is none of them."""
    reading: Callable[[str], int] = lambda path: 1
    """Goes up, for the paths concerned, where more or other rows are read of the same files than before."""
    fields: frozenset[str] = frozenset()
    """What is read beside ids, questions and passages, by the names of RowBatch. An index made before one of them was
    known is compared with its source, once, and made anew where the source has it."""
    build: Build
    """Writes the index."""


def from_rows(source: Callable[[CorpusConfig, str], RowSource]) -> Build:
    """Index the rows of what `source` makes of a configuration and its path, expanded."""

    def build(config: CorpusConfig, path: str, directory: Path, *, fields: frozenset[str], progress: bool) -> None:
        build_index(source(config, path), directory, fields=fields, progress=progress)

    return build
