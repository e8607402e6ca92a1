"""A report folder: tables as Markdown, CSV and LaTeX, figures as PNG and SVG, and pages that hold them all.

report.md                   the tables and the figures, those of a grid first
report.html                 the same in one file that needs no other
tables/<table>.csv, .tex    each table, full precision in CSV
all-figures.csv             every figure of every result in long form
bias-<task>, vectors-<task>, first-<task>-<label>, heatmap-<task>-<label>, difference-<task>-<label>-minus-<label>,
    curves-<label>, <grid>-<what>, each .png and .svg
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from hybatch.atomic import atomic_file
from hybatch.errors import UserError
from hybatch.reporting.figures.bias import draw_bias_against_map, draw_first_languages
from hybatch.reporting.figures.curves import draw_learning_curves, learning_curves
from hybatch.reporting.figures.files import FigureFile, FigureFolder
from hybatch.reporting.figures.heatmaps import draw_difference_heatmap, draw_heatmap
from hybatch.reporting.figures.vectors import draw_vectors
from hybatch.reporting.grids.figures.all_figures import write_grid_figures
from hybatch.reporting.grids.tables.all_tables import grid_tables
from hybatch.reporting.grids.tables.provenance import grid_provenance
from hybatch.reporting.inputs import LearningCurve, ReportInputs, short_names
from hybatch.reporting.page.html import PageSection, html_page
from hybatch.reporting.results import Figures, LanguageResults, PairResults, Results
from hybatch.reporting.tables.bias import bias_tables, metric_tables
from hybatch.reporting.tables.by_language import language_tables
from hybatch.reporting.tables.markdown import markdown_link_text, markdown_text
from hybatch.reporting.tables.measured import Measured, by_task
from hybatch.reporting.tables.pairs import report_tables
from hybatch.reporting.tables.render import csv_text, latex, markdown
from hybatch.reporting.tables.table import ReportTable, file_name
from hybatch.reporting.tables.vectors import of_vectors, vector_tables
from hybatch.reporting.tables.words import TextTable, text_markdown


def write_report(inputs: ReportInputs, directory: Path) -> list[ReportTable]:
    """Write the report folder and return its tables; each file appears whole or not at all.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    try:
        sections = list(_sections(inputs, FigureFolder(directory)))
        tables = [table for section in sections for table in section.tables if isinstance(table, ReportTable)]
        for table in tables:
            for suffix, text in ((".csv", csv_text(table)), (".tex", latex(table))):
                with atomic_file(directory / "tables" / f"{table.slug}{suffix}") as file:
                    file.write(text)
        _write_long_form([*_of_grid(inputs), *inputs.measured, *inputs.by_language], directory / "all-figures.csv")
        for name, text in (
            ("report.md", _markdown_page(sections)),
            ("report.html", html_page("Report", sections, directory)),
        ):
            with atomic_file(directory / name) as file:
                file.write(text)
    except OSError as error:
        raise UserError(f"--output {directory}: cannot be written ({error.strerror or error})") from error
    return tables


def _sections(inputs: ReportInputs, folder: FigureFolder) -> Iterator[PageSection]:
    """What the report holds; drawing the figures as it goes."""
    provenance = []
    if inputs.grid:
        yield PageSection(inputs.grid.name.capitalize(), tables=grid_tables(inputs.grid))
        for title, figures in write_grid_figures(inputs.grid, folder).items():
            yield PageSection(title, figures=figures)
        provenance += grid_provenance(inputs.grid)
    results = [*report_tables(inputs.measured), *bias_tables(inputs.measured), *language_tables(inputs.by_language)]
    yield PageSection("Results", tables=results)
    vectors = list(_draw_vectors(inputs.measured, folder))
    yield PageSection("Small vectors", tables=vector_tables(inputs.measured), figures=vectors)
    bias = list(_draw_bias(inputs.measured, folder))
    yield PageSection("Language bias", tables=metric_tables(inputs.measured), figures=bias)
    yield PageSection("Language pairs", figures=list(_draw_heatmaps(inputs.measured, folder)))
    yield PageSection("Learning curves", figures=list(_draw_curves(inputs.curves, folder)))
    measured: list[Measured[Results]] = [*inputs.measured, *inputs.by_language]
    if measured:
        provenance.append(_provenance(measured))
    yield PageSection("Provenance", tables=provenance)


def _of_grid(inputs: ReportInputs) -> list[Measured[Results]]:
    runs = inputs.grid.runs if inputs.grid else ()
    return [Measured(run.name, results) for run in runs for results in run.results.values()]


def _draw_heatmaps(measured: Sequence[Measured[PairResults]], folder: FigureFolder) -> Iterator[FigureFile]:
    for task, group in by_task(measured).items():
        for one in group:
            name = f"heatmap-{file_name(task)}-{file_name(one.label)}"
            title = f"{task}: {one.label}"
            caption = f"{title}, mAP of every language pair and of the pool of all languages"
            yield folder.write(draw_heatmap(one.results, title=title), name, caption)
        if len(group) == 2:
            baseline, other = group
            name = f"difference-{file_name(task)}-{file_name(other.label)}-minus-{file_name(baseline.label)}"
            title = f"{task}: {other.label} minus {baseline.label}"
            figure = draw_difference_heatmap(other.results, baseline.results, title=title)
            yield folder.write(figure, name, f"{title}, mAP")


def _draw_bias(measured: Sequence[Measured[PairResults]], folder: FigureFolder) -> Iterator[FigureFile]:
    for task, group in by_task(measured).items():
        if figure := draw_bias_against_map(group, title=f"{task}: language bias against mAP"):
            caption = f"{task}: language bias against the mAP in the pool of all languages"
            yield folder.write(figure, f"bias-{file_name(task)}", caption)
        for one in group:
            title = f"{task}: {one.label}"
            if figure := draw_first_languages(one.results, title=title):
                caption = f"{title}, language of the first candidate in the pool of all languages, rows add up to 1"
                yield folder.write(figure, f"first-{file_name(task)}-{file_name(one.label)}", caption)


def _draw_vectors(measured: Sequence[Measured[PairResults]], folder: FigureFolder) -> Iterator[FigureFile]:
    for task, group in by_task(measured).items():
        found = [one.results for one in of_vectors(group)]
        names = short_names([results.model for results in found])
        models: dict[str, list[PairResults]] = {}
        for results in found:
            models.setdefault(results.model_marked(names[results.model]), []).append(results)
        if models:
            caption = f"{task}: bytes a passage against mAP"
            yield folder.write(draw_vectors(models, title=caption), f"vectors-{file_name(task)}", caption)


def _draw_curves(curves: Sequence[LearningCurve], folder: FigureFolder) -> Iterator[FigureFile]:
    for curve in curves:
        panels = learning_curves(curve.rows)
        if panels:
            caption = f"{curve.label}: {', '.join(panels)}"
            figure = draw_learning_curves(panels, title=curve.label)
            yield folder.write(figure, f"curves-{file_name(curve.label)}", caption)


def _markdown_page(sections: Sequence[PageSection]) -> str:
    parts = ["# Report\n"]
    for section in sections:
        for table in section.tables:
            parts.append(markdown(table) if isinstance(table, ReportTable) else text_markdown(table))
        for figure in section.figures:
            caption, words = markdown_text(figure.caption), markdown_link_text(figure.caption)
            parts.append(f"### {caption}\n\n![{words}]({figure.name})\n")
    return "\n".join(parts)


def _provenance(measured: Sequence[Measured[Results]]) -> TextTable:
    rows = []
    for one in measured:
        versions = ", ".join(f"{name} {version}" for name, version in sorted(one.results.versions.items()))
        rows.append((one.label, one.results.task, one.results.described_model, one.results.ranked_by, versions))
    return TextTable("What was measured", ("result", "task", "model", "ranked by", "versions"), tuple(rows))


def _write_long_form(measured: Sequence[Measured[Results]], path: Path) -> None:
    with atomic_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", "task", "query_language", "candidate_language", "metric", "value"])
        for one in measured:
            for query_language, candidate_language, figures in _cells(one.results):
                for metric, value in figures.items():
                    place = (one.label, one.results.task, query_language, candidate_language, metric)
                    writer.writerow([*place, "" if value is None else repr(value)])


def _cells(results: Results) -> Iterator[tuple[str, str, Figures]]:
    """(query language, candidate language, figures), in the order of the languages.

    The second is "all" for the pool, "de+en" for that of two languages, "" where there is no other.
    """
    for language in results.languages:
        if isinstance(results, LanguageResults):
            yield language, "", results.figures[language]
            continue
        for other, figures in results.pairs[language].items():
            yield language, other, figures
        bias = results.language_bias
        yield language, "all", {**results.multilingual[language], **(bias.multilingual[language] if bias else {})}
        if bias and language in bias.bilingual:
            yield language, f"{language}+{bias.pivot}", bias.bilingual[language]
