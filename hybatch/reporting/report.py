"""A report folder: tables as Markdown, CSV and LaTeX, figures as PNG, and one page that holds them all.

report.md                   the tables and links to the figures
tables/<table>.csv, .tex    each table, full precision in CSV
all-figures.csv             every figure of every result in long form
heatmap-<task>-<label>.png, difference-<task>-<label>-minus-<label>.png, curves-<label>.png
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybatch.atomic import atomic_file
from hybatch.errors import UserError
from hybatch.reporting.bias_tables import bias_tables
from hybatch.reporting.curves import learning_curves
from hybatch.reporting.figures import write_difference_heatmap, write_heatmap, write_learning_curves
from hybatch.reporting.inputs import LearningCurve, ReportInputs
from hybatch.reporting.language_tables import language_tables
from hybatch.reporting.render import csv_text, latex, markdown
from hybatch.reporting.tables import Measured, ReportTable, by_task, file_name, report_tables


@dataclass(frozen=True)
class FigureFile:
    """A drawn figure: its file in the report folder and what it shows."""

    name: str
    caption: str


def write_report(inputs: ReportInputs, directory: Path) -> list[ReportTable]:
    """Write the report folder and return its tables; each file appears whole or not at all.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    tables = [*report_tables(inputs.measured), *bias_tables(inputs.measured), *language_tables(inputs.by_language)]
    try:
        for table in tables:
            for suffix, text in ((".csv", csv_text(table)), (".tex", latex(table))):
                with atomic_file(directory / "tables" / f"{table.slug}{suffix}") as file:
                    file.write(text)
        _write_long_form([*inputs.measured, *inputs.by_language], directory / "all-figures.csv")
        figures = [*_draw_heatmaps(inputs.measured, directory), *_draw_curves(inputs.curves, directory)]
        with atomic_file(directory / "report.md") as file:
            file.write(_page(inputs, tables, figures))
    except OSError as error:
        raise UserError(f"--output {directory}: cannot be written ({error.strerror})") from error
    return tables


def _draw_heatmaps(measured: Sequence[Measured], directory: Path) -> Iterator[FigureFile]:
    for task, group in by_task(measured).items():
        for one in group:
            name = f"heatmap-{file_name(task)}-{file_name(one.label)}.png"
            title = f"{task}: {one.label}"
            write_heatmap(one.results, directory / name, title=title)
            yield FigureFile(name, f"{title}, mAP of every language pair and of the pool of all languages")
        if len(group) == 2:
            baseline, other = group
            name = f"difference-{file_name(task)}-{file_name(other.label)}-minus-{file_name(baseline.label)}.png"
            title = f"{task}: {other.label} minus {baseline.label}"
            write_difference_heatmap(other.results, baseline.results, directory / name, title=title)
            yield FigureFile(name, f"{title}, mAP")


def _draw_curves(curves: Sequence[LearningCurve], directory: Path) -> Iterator[FigureFile]:
    for curve in curves:
        panels = learning_curves(curve.rows)
        if panels:
            name = f"curves-{file_name(curve.label)}.png"
            write_learning_curves(panels, directory / name, title=curve.label)
            yield FigureFile(name, f"{curve.label}: {', '.join(panels)}")


def _page(inputs: ReportInputs, tables: Sequence[ReportTable], figures: Sequence[FigureFile]) -> str:
    sections = ["# Report\n"]
    sections += [markdown(table) for table in tables]
    sections += [f"### {figure.caption}\n\n![{figure.caption}]({figure.name})\n" for figure in figures]
    sections.append(_provenance([*inputs.measured, *inputs.by_language]))
    return "\n".join(sections)


def _provenance(measured: Sequence[Measured]) -> str:
    lines = ["### What was measured\n", "| | task | model | ranked by | versions |", "|---|---|---|---|---|"]
    for one in measured:
        results = one.results
        versions = ", ".join(f"{name} {version}" for name, version in sorted(results.get("versions", {}).items()))
        ranked_by = results.get("backend") or results.get("search") or results.get("similarity")
        lines.append(f"| {one.label} | {results['task']} | {results['model']} | {ranked_by} | {versions} |")
    return "\n".join(lines) + "\n"


def _write_long_form(measured: Sequence[Measured], path: Path) -> None:
    with atomic_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", "task", "query_language", "candidate_language", "metric", "value"])
        for one in measured:
            for query_language in one.results["languages"]:
                cells: dict[str, dict[str, Any]] = {}
                if "pairs" in one.results:
                    cells |= one.results["pairs"][query_language]
                    cells["all"] = one.results["multilingual"][query_language]
                else:
                    cells[""] = one.results["figures"][query_language]
                for candidate_language, figures in cells.items():
                    for metric, value in figures.items():
                        place = (one.label, one.results["task"], query_language, candidate_language, metric)
                        writer.writerow([*place, "" if value is None else repr(value)])
