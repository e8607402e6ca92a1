"""Tables of language bias: every metric of it, and which languages the best candidates of the pool are in."""

from __future__ import annotations

from collections.abc import Sequence

from hybatch.evaluation.settings.bias_metrics import BIAS_METRICS, BILINGUAL, GROUPS, MULTILINGUAL
from hybatch.reporting.results import PairResults, TopLanguages
from hybatch.reporting.tables.measured import Measured, by_task
from hybatch.reporting.tables.table import Column, ReportTable, Row, file_name

_NOTE = (
    "Of all candidates in the top k of the pool of all languages, right or wrong. distance: half the sum of the "
    "absolute differences between the languages' shares and their shares of the pool, 0 for none; own: the share of "
    "the query's own language over its share of the pool, 1 for no preference."
)


_POOLS = {
    MULTILINGUAL: "Means over the query languages, in the pool of all languages.",
    BILINGUAL: "Means over the query languages but English, each in the pool of its candidates and the English ones.",
}


def metric_tables(measured: Sequence[Measured[PairResults]]) -> list[ReportTable]:
    """A table for every task and group of `BIAS_METRICS` of which there are figures."""
    tables = []
    for name, group in by_task(measured).items():
        for title, pool in GROUPS.items():
            found = [
                metric
                for metric in BIAS_METRICS.values()
                if metric.group == title and any(one.results.bias_mean(metric) is not None for one in group)
            ]
            if not found:
                continue
            columns = tuple(Column(metric.label, metric.digits, metric.higher_is_better) for metric in found)
            rows = tuple(Row(one.label, tuple(map(one.results.bias_mean, found))) for one in group)
            tables.append(
                ReportTable(
                    slug=f"{file_name(name)}-bias-{file_name(title)}",
                    title=f"{name}: language bias, {title}",
                    columns=columns,
                    rows=rows,
                    note=" ".join([_POOLS[pool], *(f"{metric.label}: {metric.definition}." for metric in found)]),
                )
            )
    return tables


def bias_tables(measured: Sequence[Measured[PairResults]]) -> list[ReportTable]:
    """One table for every task that has results with `top_languages`; results from before that have no figures."""
    tables = []
    for name, group in by_task(measured).items():
        counted = [one.results.top_languages.top for one in group if one.results.top_languages]
        if not counted:
            continue
        cutoffs = list(counted[0])
        tables.append(
            ReportTable(
                slug=f"{file_name(name)}-language-bias",
                title=f"{name}: languages of the best candidates",
                columns=tuple(
                    Column(f"{heading}@{k}", digits, higher_is_better)
                    for k in cutoffs
                    # Far below 1 a preference is as far from none as far above it.
                    for heading, digits, higher_is_better in (("distance", 4, False), ("own", 2, None))
                ),
                rows=tuple(Row(one.label, _values(one.results, cutoffs)) for one in group),
                note=_NOTE,
            )
        )
    return tables


def _values(results: PairResults, cutoffs: Sequence[str]) -> tuple[float | None, ...]:
    known = results.top_languages
    if known is None:
        return (None,) * (2 * len(cutoffs))
    tops = [known.top.get(k) for k in cutoffs]
    return tuple(value for top in tops for value in ((top.distance, _preference(top)) if top else (None, None)))


def _preference(top: TopLanguages) -> float | None:
    """For the query's own language; None where no language that is asked in has candidates."""
    return top.own / top.own_uniform if top.own_uniform and top.own is not None else None
