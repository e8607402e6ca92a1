"""A table as Markdown, CSV, LaTeX, and for the terminal.

Among two or more measured figures of a column the best is bold; among three or more the second best is underlined.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping

from rich.markup import escape
from rich.table import Table

from hybatch.reporting.tables import ReportTable, Row

Marks = dict[tuple[int, int], str]


def marks(table: ReportTable) -> Marks:
    """(row, column) -> "best" or "second" among the measured rows, as printed; ties share a mark."""
    marked: Marks = {}
    for c, column in enumerate(table.columns):
        printed = {}
        for r, row in enumerate(table.rows):
            value = row.values[c]
            if row.measured and value is not None:
                printed[r] = round(value, column.digits)
        ranking = sorted(set(printed.values()), reverse=column.higher_is_better)
        if len(printed) < 2:
            continue
        for r, value in printed.items():
            if value == ranking[0]:
                marked[r, c] = "best"
            elif value == ranking[1] and len(printed) > 2:
                marked[r, c] = "second"
    return marked


def markdown(table: ReportTable) -> str:
    """A pipe table under a heading, with its note below."""
    style = {"best": "**{}**".format, "second": "<u>{}</u>".format}
    lines = [
        f"### {table.title}",
        "",
        "| | " + " | ".join(column.heading for column in table.columns) + " |",
        "|---" + "|---:" * len(table.columns) + "|",
    ]
    for row, cells in _cells(table, style):
        lines.append(f"| {row.label.replace('|', chr(92) + '|')} | " + " | ".join(cells) + " |")
    if table.note:
        lines += ["", table.note]
    return "\n".join(lines) + "\n"


def latex(table: ReportTable) -> str:
    """A `table` environment with booktabs rules; published rows stand below a rule of their own."""
    style = {"best": r"\textbf{{{}}}".format, "second": r"\underline{{{}}}".format}
    headings = " & ".join(latex_text(column.heading) for column in table.columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(table.title)}. {latex_text(table.note)}}}".replace(". }", ".}"),
        rf"\label{{tab:{table.slug}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        rf" & {headings} \\",
        r"\midrule",
    ]
    previous_measured = True
    for row, cells in _cells(table, style):
        if previous_measured and not row.measured:
            lines.append(r"\midrule")
        previous_measured = row.measured
        lines.append(rf"{latex_text(row.label)} & {' & '.join(cells)} \\".replace("–", "--"))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def csv_text(table: ReportTable) -> str:
    """Full precision; an empty cell where there is no figure."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["label", "source", *(column.heading for column in table.columns)])
    for row in table.rows:
        values = ["" if value is None else repr(value) for value in row.values]
        writer.writerow([row.label, "measured" if row.measured else "published", *values])
    return buffer.getvalue()


def terminal(table: ReportTable) -> Table:
    """A rich table."""
    style = {"best": "[bold]{}[/bold]".format, "second": "[underline]{}[/underline]".format}
    drawn = Table(title=table.title, caption=table.note or None, title_justify="left", caption_justify="left")
    drawn.add_column("")
    for column in table.columns:
        drawn.add_column(column.heading, justify="right")
    for row, cells in _cells(table, style):
        drawn.add_row(escape(row.label), *cells, style=None if row.measured else "dim")
    return drawn


_LATEX_SPECIAL = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def latex_text(text: str) -> str:
    """Escape what LaTeX would read as markup."""
    return "".join(_LATEX_SPECIAL.get(character, character) for character in text)


def _cells(table: ReportTable, style: Mapping[str, Callable[[str], str]]) -> list[tuple[Row, list[str]]]:
    marked = marks(table)
    rows = []
    for r, row in enumerate(table.rows):
        cells = []
        for c, (value, column) in enumerate(zip(row.values, table.columns, strict=True)):
            text = "–" if value is None else f"{value:.{column.digits}f}"
            cells.append(style[marked[r, c]](text) if (r, c) in marked else text)
        rows.append((row, cells))
    return rows
