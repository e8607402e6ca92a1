"""Tables of results in every language setting, in the form of the paper's, with the published figures below them."""

from __future__ import annotations

from collections.abc import Sequence

from hybatch.reporting.results import PairResults
from hybatch.reporting.tables.measured import Measured, by_task
from hybatch.reporting.tables.measures import MEASURES, Measure
from hybatch.reporting.tables.published import (
    SOURCE,
    published_label,
    published_languages,
    published_models,
    published_value,
)
from hybatch.reporting.tables.table import Column, ReportTable, Row, file_name

_NOTHING: tuple[list[Row], str] = ([], "")


def report_tables(measured: Sequence[Measured[PairResults]], *, published: bool = True) -> list[ReportTable]:
    """For every task: the summary in the form of the paper's Table 1, then one table per kind of setting.

    Results of one task over other languages are another task here: their means do not compare.

    Args:
        published: put the published figures below the measured ones.
    """
    tables = []
    for name, group in by_task(measured).items():
        tables.append(_summary_table(name, group, published))
        tables.extend(_language_table(name, group, measure, published) for measure in MEASURES)
    return tables


def _summary_table(name: str, group: Sequence[Measured[PairResults]], published: bool) -> ReportTable:
    columns = tuple(Column(one.heading, one.digits, one.higher_is_better) for one in MEASURES)
    rows = [Row(one.label, tuple(one.results.summary[m.setting].get(m.metric) for m in MEASURES)) for one in group]
    cells = [(measure, "mean") for measure in MEASURES]
    below, note = _published_rows(group[0].results, cells) if published else _NOTHING
    counts = group[0].results.summary
    sizes = ", ".join(f"{counts[s]['num_settings']} {s.replace('_', '-')}" for s in ("monolingual", "cross_lingual"))
    return ReportTable(
        slug=f"{file_name(name)}-summary",
        title=f"{name}: mAP in every kind of setting and rank distance",
        columns=columns,
        rows=(*rows, *below),
        note=f"Mo., Cr., Mul.: mAP, means over {sizes} settings and one pool per query language. {note}".strip(),
    )


def _language_table(
    name: str, group: Sequence[Measured[PairResults]], measure: Measure, published: bool
) -> ReportTable:
    languages = group[0].results.languages
    columns = tuple(Column(heading, measure.digits, measure.higher_is_better) for heading in (*languages, "mean"))
    rows = []
    for one in group:
        values = one.results.by_language(measure.setting, measure.metric)
        mean = one.results.summary[measure.setting].get(measure.metric)
        rows.append(Row(one.label, (*(values[language] for language in languages), mean)))
    cells = [(measure, language) for language in (*languages, "mean")]
    below, note = _published_rows(group[0].results, cells) if published else _NOTHING
    return ReportTable(
        slug=f"{file_name(name)}-{measure.slug}",
        title=f"{name}: {measure.title}",
        columns=columns,
        rows=(*rows, *below),
        note=note,
    )


def _published_rows(results: PairResults, cells: Sequence[tuple[Measure, str]]) -> tuple[list[Row], str]:
    """Published rows for (measure, language) cells, and what to say about them."""
    languages = published_languages(results.task)
    if not languages:
        return [], ""
    if list(results.languages) != languages:
        return [], f"The published figures are for {' '.join(languages)} and are left out: their pools differ."
    rows = []
    for model, sampling in published_models(results.task):
        values = tuple(published_value(model, sampling, results.task, m.setting, m.metric, lang) for m, lang in cells)
        rows.append(Row(published_label(model, sampling), values, measured=False))
    return rows, f"Published: {SOURCE}."
