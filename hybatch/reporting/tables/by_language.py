"""Tables of the tasks that have one row of figures a language, such as Tatoeba or MIRACL."""

from __future__ import annotations

from collections.abc import Sequence

from hybatch.reporting.results import LanguageResults
from hybatch.reporting.tables.measured import Measured, by_task
from hybatch.reporting.tables.table import Column, ReportTable, Row, file_name

_RANKS = ("median_first_rank",)


def language_tables(measured: Sequence[Measured[LanguageResults]]) -> list[ReportTable]:
    """For every task: the means of every metric, and every language's figures of the task's main metric."""
    tables: list[ReportTable] = []
    for name, group in by_task(measured).items():
        tables.extend(_summary_table(name, group, kind) for kind in group[0].results.summary)
        tables.append(_language_table(name, group, group[0].results.metrics[0]))
    return tables


def _summary_table(name: str, group: Sequence[Measured[LanguageResults]], kind: str) -> ReportTable:
    """Means over all languages ("mean"), or over a subset that the task names."""
    metrics = group[0].results.metrics
    count = group[0].results.summary[kind]["num_languages"]
    rows = [Row(one.label, tuple(one.results.summary.get(kind, {}).get(metric) for metric in metrics)) for one in group]
    return ReportTable(
        slug=f"{file_name(name)}-summary" if kind == "mean" else f"{file_name(name)}-{file_name(kind)}-summary",
        title=f"{name}: means over {count} languages" + ("" if kind == "mean" else f" ({kind})"),
        columns=tuple(_column(metric) for metric in metrics),
        rows=tuple(rows),
    )


def _language_table(name: str, group: Sequence[Measured[LanguageResults]], metric: str) -> ReportTable:
    languages = group[0].results.languages
    rows = [
        Row(
            one.label,
            (
                *(one.results.figures[language].get(metric) for language in languages),
                one.results.summary["mean"].get(metric),
            ),
        )
        for one in group
    ]
    return ReportTable(
        slug=f"{file_name(name)}-by-language",
        title=f"{name}: {metric.replace('_', ' ')} by language",
        columns=tuple(Column(heading) for heading in (*languages, "mean")),
        rows=tuple(rows),
    )


def _column(metric: str) -> Column:
    heading = metric.replace("_", " ")
    return Column(heading, 1, higher_is_better=False) if metric in _RANKS else Column(heading)
