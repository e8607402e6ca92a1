"""A table as Markdown, CSV, LaTeX, and for the terminal.

Among two or more measured figures of a column, within a block of rows, the best is bold; among three or more the second
best is underlined. A mean over several runs is followed by its standard deviation.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hybatch.reporting.tables.markdown import markdown_cell, markdown_text
from hybatch.reporting.tables.table import Column, ReportTable, Row

Marks = dict[tuple[int, int], str]
# More figures in a row than this, deviations counted, do not fit on a page in portrait.
_WIDE = 12


def marks(table: ReportTable) -> Marks:
    """(row, column) -> "best" or "second" among the measured rows of a block, as printed; ties share a mark."""
    marked: Marks = {}
    for c, column in enumerate(table.columns):
        if column.higher_is_better is None:
            continue
        printed: dict[str, dict[int, float]] = {}
        for r, row in enumerate(table.rows):
            value = row.values[c]
            if row.measured and isinstance(value, int | float):
                printed.setdefault(row.block, {})[r] = round(value, column.digits)
        for block in printed.values():
            ranking = sorted(set(block.values()), reverse=column.higher_is_better)
            if len(block) < 2:
                continue
            for r, value in block.items():
                if value == ranking[0]:
                    marked[r, c] = "best"
                elif value == ranking[1] and len(block) > 2:
                    marked[r, c] = "second"
    return marked


def markdown(table: ReportTable) -> str:
    """A pipe table under a heading, with its note below."""
    style = {"best": "**{}**".format, "second": "<u>{}</u>".format}
    lines = [
        f"### {markdown_text(table.title)}",
        "",
        "| | " + " | ".join(markdown_cell(column.heading) for column in table.columns) + " |",
        "|---" + "|---:" * len(table.columns) + "|",
    ]
    for row, cells in printed_cells(table, style, markdown_cell):
        lines.append(f"| {markdown_cell(row.label)} | " + " | ".join(cells) + " |")
    if table.note:
        lines += ["", markdown_text(table.note)]
    return "\n".join(lines) + "\n"


def latex(table: ReportTable) -> str:
    """A `table` environment with booktabs rules between blocks of rows, and between measured and published rows.

    A table too wide for a page is scaled to the line, which takes the package graphicx.
    """
    style = {"best": r"\textbf{{{}}}".format, "second": r"\underline{{{}}}".format}
    headings = " & ".join(latex_text(column.heading) for column in table.columns)
    wide = len(table.columns) * (2 if any(row.deviations for row in table.rows) else 1) > _WIDE
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(table.title)}. {latex_text(table.note)}}}".replace(". }", ".}"),
        rf"\label{{tab:{table.slug}}}",
        *([r"\resizebox{\linewidth}{!}{%"] if wide else []),
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        rf" & {headings} \\",
        r"\midrule",
    ]
    previous = table.rows[0] if table.rows else None
    for row, cells in printed_cells(table, style, latex_text):
        if previous and (previous.block, previous.measured) != (row.block, row.measured):
            lines.append(r"\midrule")
        previous = row
        minus = re.sub(r"(?<!\w)-(?=\d)", "$-$", " & ".join(cells))
        lines.append(rf"{latex_text(row.label)} & {minus} \\")
    lines += [r"\bottomrule", r"\end{tabular}", *(["}"] if wide else []), r"\end{table}"]
    return "\n".join(lines) + "\n"


def csv_text(table: ReportTable) -> str:
    """Full precision; an empty cell where there is no figure.

    A column of means over several runs is three: the mean, "sd" (sample standard deviation) and "n" (runs).
    """
    several = [any(row.counts and row.counts[c] is not None for row in table.rows) for c in range(len(table.columns))]
    headings = []
    for column, is_mean in zip(table.columns, several, strict=True):
        headings += [f"{column.heading}{part}" for part in (("", " sd", " n") if is_mean else ("",))]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["label", "source", *headings])
    for row in table.rows:
        cells: list[str] = []
        for c, value in enumerate(row.values):
            cells.append(_exact(value))
            if several[c]:
                cells.append(_exact(row.deviations[c] if row.deviations else None))
                cells.append(_exact(row.counts[c] if row.counts else None))
        writer.writerow([row.label, "measured" if row.measured else "published", *cells])
    return buffer.getvalue()


def terminal(table: ReportTable) -> Table:
    """A rich table, for a console without markup (`hybatch.terminal`)."""
    style = {"best": "[bold]{}[/bold]".format, "second": "[underline]{}[/underline]".format}
    drawn = Table(title=table.title, caption=table.note or None, title_justify="left", caption_justify="left")
    if any(row.deviations for row in table.rows):
        drawn.padding = (0, 0, 0, 0)
    drawn.add_column("")
    for column in table.columns:
        drawn.add_column(column.heading, justify="right")
    previous = ""
    for row, cells in printed_cells(table, style, escape):
        if row.block != previous:
            drawn.add_section()
        previous = row.block
        styled = [Text.from_markup(cell, emoji=False) for cell in cells]
        drawn.add_row(row.label, *styled, style=None if row.measured else "dim")
    return drawn


_LATEX_SPECIAL = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "†": r"$^{\dagger}$",
    "‡": r"$^{\ddagger}$",
    "–": "--",
    "→": r"$\to$",
}


def latex_text(text: str) -> str:
    """Escape what LaTeX would read as markup."""
    return "".join(_LATEX_SPECIAL.get(character, character) for character in " ".join(text.splitlines()))


def _exact(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else repr(value)


def printed_cells(
    table: ReportTable, style: Mapping[str, Callable[[str], str]], escaped: Callable[[str], str]
) -> list[tuple[Row, list[str]]]:
    """The printed cells of each row; `escaped` is given all that is not a figure."""
    marked = marks(table)
    rows = []
    for r, row in enumerate(table.rows):
        cells = []
        for c, (value, column) in enumerate(zip(row.values, table.columns, strict=True)):
            text = figure_text(value, column)
            text = escaped(text) if isinstance(value, str | None) else text
            text = style[marked[r, c]](text) if (r, c) in marked else text
            cells.append(text + escaped(_after(row, c, column)))
        rows.append((row, cells))
    return rows


def figure_text(value: float | str | None, column: Column) -> str:
    """A figure with the column's digits, words as they are, "–" for none."""
    if value is None:
        return "–"
    # Adding zero takes the sign off a rounded -0.0.
    return value if isinstance(value, str) else f"{round(value, column.digits) + 0.0:.{column.digits}f}"


def _after(row: Row, c: int, column: Column) -> str:
    """The standard deviation and the sign that follow a figure."""
    deviation = row.deviations[c] if row.deviations else None
    spread = "" if deviation is None else f" ± {deviation:.{column.digits}f}"
    return spread + (row.signs[c] if row.signs else "")
