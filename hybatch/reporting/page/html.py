"""A report as one HTML file that opens offline: tables that sort, figures inside, provenance.

The file asks for nothing: style and script stand in it and are allowed by their hashes alone, and figures are data.
Every text is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from hybatch.reporting.figures.files import FigureFile
from hybatch.reporting.tables.render import printed_cells
from hybatch.reporting.tables.table import Column, ReportTable, file_name
from hybatch.reporting.tables.words import TextTable

_MARKS = {"best": Markup("<b>{}</b>").format, "second": Markup("<u>{}</u>").format}
_ARXIV = re.compile(r"\barXiv (\d{4}\.\d{4,5})\b")


@dataclass(frozen=True)
class PageSection:
    """A part of a report: tables, then figures; one without either is left out."""

    title: str
    tables: Sequence[ReportTable | TextTable] = ()
    figures: Sequence[FigureFile] = ()


def html_page(title: str, sections: Iterable[PageSection], directory: Path) -> str:
    """The page.

    Args:
        directory: where the figures lie; the page holds their SVG.

    Raises:
        OSError: a figure cannot be read.
    """
    style, script = _resource("page.css"), _resource("page.js")
    return _template().render(
        title=title,
        sections=[_section(section, directory) for section in sections if section.tables or section.figures],
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'",
    )


def _section(section: PageSection, directory: Path) -> dict[str, object]:
    name = file_name(section.title.lower())
    return {
        "id": f"section-{name}",
        "title": section.title,
        "tables": [
            _text_table(table, f"table-{name}-{file_name(table.title.lower())}")
            if isinstance(table, TextTable)
            else _figures_table(table)
            for table in section.tables
        ],
        "figures": [
            {"id": f"figure-{Path(one.name).stem}", "caption": one.caption, "source": _embedded(directory, one)}
            for one in section.figures
        ],
    }


def _figures_table(table: ReportTable) -> dict[str, object]:
    rows = []
    for row, texts in printed_cells(table, _MARKS, escape):
        cells = [{"value": _sorted_by(value), "text": text} for value, text in zip(row.values, texts, strict=True)]
        rows.append({"label": row.label, "cells": cells, "block": (row.block, row.measured)})
    return {
        "id": f"table-{table.slug}",
        "title": table.title,
        "note": _linked(table.note),
        "headings": [
            {"text": "", "first": "ascending", "kind": "text"},
            *(_heading(column, [row.values[c] for row in table.rows]) for c, column in enumerate(table.columns)),
        ],
        # As in print, a rule sets blocks of rows apart; only rows of one block are sorted among each other.
        "blocks": [
            {"measured": measured, "rows": list(members)}
            for (_, measured), members in groupby(rows, key=itemgetter("block"))
        ],
    }


def _heading(column: Column, values: Sequence[float | str | None]) -> dict[str, str]:
    return {
        "text": column.heading,
        "first": "descending" if column.higher_is_better else "ascending",
        "kind": "text" if any(isinstance(value, str) for value in values) else "number",
    }


def _sorted_by(value: float | str | None) -> str | None:
    """What the script sorts a cell by: a number, "" for none; None where it is the cell's text."""
    if value is None:
        return ""
    return None if isinstance(value, str) else repr(value)


def _text_table(table: TextTable, name: str) -> dict[str, object]:
    rows = [
        {"label": label, "cells": [{"value": None, "text": text} for text in texts]} for label, *texts in table.rows
    ]
    return {
        "id": name,
        "title": table.title,
        "note": "",
        "headings": [{"text": heading, "first": "ascending", "kind": "text"} for heading in table.headings],
        "blocks": [{"measured": True, "rows": rows}],
    }


def _linked(text: str) -> Markup:
    """The text with a link on every arXiv number."""
    return Markup(_ARXIV.sub(r'<a href="https://arxiv.org/abs/\1" rel="noreferrer">\g<0></a>', str(escape(text))))


def _embedded(directory: Path, figure: FigureFile) -> str:
    data = (directory / figure.vector_name).read_bytes()
    return f"data:image/svg+xml;base64,{base64.b64encode(data).decode('ascii')}"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("page.html.j2"))


def _resource(name: str) -> str:
    return files("hybatch.reporting.page").joinpath(name).read_text(encoding="utf-8")
