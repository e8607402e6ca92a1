"""What `hybatch evaluate --list-tasks` prints."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from hybatch.evaluation.catalogue.entry import TaskEntry


def tasks_table(entries: Iterable[TaskEntry]) -> Table:
    """One row a task: its name, languages, settings, metric, source, licence and files."""
    table = Table(title="hybatch evaluate --task NAME", title_justify="left", show_lines=True)
    table.add_column("name", no_wrap=True)
    for heading in ("languages", "settings", "metric", "source", "licence"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        known = "those of the folder" if callable(entry.languages) else f"{len(entry.languages)}"
        table.add_row(entry.name, known, entry.settings, entry.metric, entry.source, entry.licence)
    return table
