"""What the command knows of a task before any of its data is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybatch.errors import UserError
from hybatch.evaluation.task import Task


@dataclass(frozen=True)
class HubFiles:
    """Files of a data set on the hub that stand there as the task reads them."""

    repository: str
    """The data set's id."""
    folder: str
    """Where the repository's files belong, below --data-dir."""
    patterns: Callable[[str], Sequence[str]]
    """Names of the files of one language, which is "*" for all, with wildcards."""


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """One task by name: what it measures, where its data comes from, how it is read.

    What `load` returns knows how it is scored: a `RetrievalTask` in every language setting, the others by metrics of
    their own.
    """

    name: str
    """What --task calls it."""
    summary: str
    """One line for --help."""
    languages: Sequence[str] | Callable[[Path], Sequence[str]]
    """The languages it has, or how to find them, given --data-dir."""
    settings: str
    """What is asked of which candidates."""
    metric: str
    """The metrics reported, the field's own first."""
    source: str
    """Who published it."""
    licence: str
    """Licence of the data, as the publisher states it."""
    layout: str = ""
    """The publisher's files under --data-dir; empty where the task needs none."""
    download: str = ""
    """Where the publisher offers them."""
    hub: Sequence[HubFiles] = ()
    """What --download fetches; empty where the hub does not have the publisher's files."""
    load: Callable[[Path, Sequence[str]], Task]
    """Reads the task, given --data-dir and the languages wanted."""

    @property
    def needs_data(self) -> bool:
        """Whether the task reads --data-dir."""
        return bool(self.layout)

    def missing(self, paths: Iterable[Path]) -> UserError:
        """The error to raise where the task's files are not there: what is expected, and where to get it."""
        listed = [str(path) for path in paths]
        shown = ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")
        return UserError(
            f"task {self.name}: missing {shown}; expected {self.layout} under --data-dir; "
            f"download from {self.download}{', or give --download' if self.hub else ''}, or name the languages you "
            "have with --languages"
        )
