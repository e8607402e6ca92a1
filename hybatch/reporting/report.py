"""A report folder: tables as Markdown, CSV and LaTeX, figures as PNG and SVG, and pages that hold them all.

report.md                   the tables and the figures, those of the study first
report.html                 the same in one file that needs no other
tables/<table>.csv, .tex    each table, full precision in CSV
all-figures.csv             every figure of every result in long form
heatmap-<task>-<label>, difference-<task>-<label>-minus-<label>, curves-<label>, study-<what>, each .png and .svg
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hybatch.atomic import atomic_file
from hybatch.errors import UserError
from hybatch.reporting.bias_tables import bias_tables
from hybatch.reporting.curves import learning_curves
from hybatch.reporting.figures import (
    FigureFile,
    draw_difference_heatmap,
    draw_heatmap,
    draw_learning_curves,
    write_figure,
)
from hybatch.reporting.inputs import LearningCurve, ReportInputs
from hybatch.reporting.language_tables import language_tables
from hybatch.reporting.page import PageSection, html_page
from hybatch.reporting.render import csv_text, latex, markdown
from hybatch.reporting.study.figures import write_study_figures
from hybatch.reporting.study.provenance import study_provenance
from hybatch.reporting.study.tables import study_tables
from hybatch.reporting.tables import Measured, ReportTable, by_task, file_name, report_tables
from hybatch.reporting.text_table import TextTable, text_markdown


def write_report(inputs: ReportInputs, directory: Path) -> list[ReportTable]:
    """Write the report folder and return its tables; each file appears whole or not at all.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    try:
        sections = list(_sections(inputs, directory))
        tables = [table for section in sections for table in section.tables if isinstance(table, ReportTable)]
        for table in tables:
            for suffix, text in ((".csv", csv_text(table)), (".tex", latex(table))):
                with atomic_file(directory / "tables" / f"{table.slug}{suffix}") as file:
                    file.write(text)
        _write_long_form([*_of_study(inputs), *inputs.measured, *inputs.by_language], directory / "all-figures.csv")
        for name, text in (
            ("report.md", _markdown_page(sections)),
            ("report.html", html_page("Report", sections, directory)),
        ):
            with atomic_file(directory / name) as file:
                file.write(text)
    except OSError as error:
        raise UserError(f"--output {directory}: cannot be written ({error.strerror or error})") from error
    return tables


def _sections(inputs: ReportInputs, directory: Path) -> Iterator[PageSection]:
    """What the report holds; drawing the figures as it goes."""
    provenance = []
    if inputs.study:
        yield PageSection("Study", tables=study_tables(inputs.study))
        for title, figures in write_study_figures(inputs.study, directory).items():
            yield PageSection(title, figures=figures)
        provenance += study_provenance(inputs.study)
    results = [*report_tables(inputs.measured), *bias_tables(inputs.measured), *language_tables(inputs.by_language)]
    yield PageSection("Results", tables=results)
    yield PageSection("Language pairs", figures=list(_draw_heatmaps(inputs.measured, directory)))
    yield PageSection("Learning curves", figures=list(_draw_curves(inputs.curves, directory)))
    if measured := [*inputs.measured, *inputs.by_language]:
        provenance.append(_provenance(measured))
    yield PageSection("Provenance", tables=provenance)


def _of_study(inputs: ReportInputs) -> list[Measured]:
    runs = inputs.study.runs if inputs.study else ()
    return [Measured(run.name, results) for run in runs for results in run.results.values()]


def _draw_heatmaps(measured: Sequence[Measured], directory: Path) -> Iterator[FigureFile]:
    for task, group in by_task(measured).items():
        for one in group:
            name = f"heatmap-{file_name(task)}-{file_name(one.label)}"
            title = f"{task}: {one.label}"
            caption = f"{title}, mAP of every language pair and of the pool of all languages"
            yield write_figure(draw_heatmap(one.results, title=title), directory, name, caption)
        if len(group) == 2:
            baseline, other = group
            name = f"difference-{file_name(task)}-{file_name(other.label)}-minus-{file_name(baseline.label)}"
            title = f"{task}: {other.label} minus {baseline.label}"
            figure = draw_difference_heatmap(other.results, baseline.results, title=title)
            yield write_figure(figure, directory, name, f"{title}, mAP")


def _draw_curves(curves: Sequence[LearningCurve], directory: Path) -> Iterator[FigureFile]:
    for curve in curves:
        panels = learning_curves(curve.rows)
        if panels:
            caption = f"{curve.label}: {', '.join(panels)}"
            figure = draw_learning_curves(panels, title=curve.label)
            yield write_figure(figure, directory, f"curves-{file_name(curve.label)}", caption)


def _markdown_page(sections: Sequence[PageSection]) -> str:
    parts = ["# Report\n"]
    for section in sections:
        for table in section.tables:
            parts.append(markdown(table) if isinstance(table, ReportTable) else text_markdown(table))
        parts += [f"### {figure.caption}\n\n![{figure.caption}]({figure.name})\n" for figure in section.figures]
    return "\n".join(parts)


def _provenance(measured: Sequence[Measured]) -> TextTable:
    rows = []
    for one in measured:
        results = one.results
        versions = ", ".join(f"{name} {version}" for name, version in sorted(results.get("versions", {}).items()))
        ranked_by = results.get("backend") or results.get("search") or results.get("similarity")
        rows.append((one.label, results["task"], results["model"], str(ranked_by), versions))
    return TextTable("What was measured", ("result", "task", "model", "ranked by", "versions"), tuple(rows))


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
