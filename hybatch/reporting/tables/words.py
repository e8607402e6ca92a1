"""A table of words, such as a list of what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from hybatch.reporting.tables.markdown import markdown_cell, markdown_text


@dataclass(frozen=True)
class TextTable:
    """Rows of words, the first of each row its heading."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def text_markdown(table: TextTable) -> str:
    """A pipe table under a heading."""
    rows = [table.headings, ("---",) * len(table.headings), *table.rows]
    lines = ["| " + " | ".join(map(markdown_cell, row)) + " |" for row in rows]
    return "\n".join([f"### {markdown_text(table.title)}", "", *lines]) + "\n"
