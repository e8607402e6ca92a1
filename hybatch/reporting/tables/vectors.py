"""The table of small vectors: what a passage takes, and what is left of mAP."""

from __future__ import annotations

from collections.abc import Sequence

from hybatch.reporting.results import PairResults
from hybatch.reporting.tables.measured import Measured, by_task
from hybatch.reporting.tables.measures import MEASURES
from hybatch.reporting.tables.table import Column, ReportTable, Row, file_name

_NOTE = (
    "bytes: of a passage's vector. Mo., Cr., Mul.: mAP, means over the languages and pairs. pessimistic, optimistic: "
    "Mul. with every tie broken against the positives, and for them."
)


def of_vectors(group: Sequence[Measured[PairResults]]) -> list[Measured[PairResults]]:
    """The results that say what was ranked: model by model in their order, the largest vectors first."""
    models = [one.results.model_marked(one.results.model) for one in group]
    found = [
        (models.index(model), -vectors.bytes, one)
        for one, model in zip(group, models, strict=True)
        if (vectors := one.results.vectors)
    ]
    return [one for *_, one in sorted(found, key=lambda place: place[:2])]


def vector_tables(measured: Sequence[Measured[PairResults]]) -> list[ReportTable]:
    """One table for every task that has results of --vectors or --dimensions."""
    columns = (
        Column("bytes", 0, higher_is_better=None),
        *(Column(one.heading, one.digits, one.higher_is_better) for one in MEASURES),
        Column("pessimistic"),
        Column("optimistic"),
    )
    tables = []
    for name, group in by_task(measured).items():
        if found := of_vectors(group):
            tables.append(
                ReportTable(
                    slug=f"{file_name(name)}-vectors",
                    title=f"{name}: bytes a passage against mAP",
                    columns=columns,
                    rows=tuple(Row(one.label, _values(one.results)) for one in found),
                    note=_NOTE,
                )
            )
    return tables


def _values(results: PairResults) -> tuple[float | None, ...]:
    assert results.vectors is not None
    return (
        results.vectors.bytes,
        *(results.summary[measure.setting].get(measure.metric) for measure in MEASURES),
        results.ties.get("map_pessimistic"),
        results.ties.get("map_optimistic"),
    )
