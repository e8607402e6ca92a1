"""Tables of language bias: which languages the best candidates of the pool are in, right or wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hybatch.reporting.tables import Column, Measured, ReportTable, Row, by_task, file_name

_NOTE = (
    "Of all candidates in the top k of the pool of all languages, right or wrong. distance: half the sum of the "
    "absolute differences between the languages' shares and their shares of the pool, 0 for none; own: the share of "
    "the query's own language over its share of the pool, 1 for no preference."
)


def bias_tables(measured: Sequence[Measured]) -> list[ReportTable]:
    """One table for every task that has results with `top_languages`; results from before that have no figures."""
    tables = []
    for name, group in by_task(measured).items():
        counted = [one.results["top_languages"]["top"] for one in group if one.results.get("top_languages")]
        if not counted:
            continue
        cutoffs = list(counted[0])
        tables.append(
            ReportTable(
                slug=f"{file_name(name)}-language-bias",
                title=f"{name}: languages of the best candidates",
                columns=tuple(
                    Column(f"{heading}@{k}", digits, higher_is_better=False)
                    for k in cutoffs
                    for heading, digits in (("distance", 4), ("own", 2))
                ),
                rows=tuple(Row(one.label, _values(one.results, cutoffs)) for one in group),
                note=_NOTE,
            )
        )
    return tables


def _values(results: Mapping[str, Any], cutoffs: Sequence[str]) -> tuple[float | None, ...]:
    known = results.get("top_languages")
    if not known:
        return (None,) * (2 * len(cutoffs))
    tops = [known["top"][k] for k in cutoffs]
    return tuple(value for top in tops for value in (top["distance"], _preference(top)))


def _preference(top: Mapping[str, Any]) -> float | None:
    """For the query's own language; None where no language that is asked in has candidates."""
    return top["own"] / top["own_uniform"] if top["own_uniform"] else None
