"""Rows of a comparison: each result against the first, overall, by kinds of languages, and in every setting."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hybatch.reporting.comparison.language_facts import language_facts
from hybatch.reporting.comparison.query_results import NO_PAIR, POOL, QueryResults
from hybatch.reporting.comparison.significance import Interval, benjamini_hochberg, compare, holm, question_sums

Section = Literal["summary", "breakdown", "setting"]
Pair = tuple[str, str]
CORRECTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"holm": holm, "bh": benjamini_hochberg}
KINDS = ("monolingual", "cross_lingual", "multilingual", "by_language")


@dataclass(frozen=True)
class ComparisonOptions:
    """How differences are judged."""

    metric: str
    resamples: int = 10_000
    seed: int = 0
    confidence: float = 0.95
    correction: str = "holm"
    interval: Interval = "percentile"


@dataclass(frozen=True)
class ComparisonRow:
    """One row: unweighted means over `num_settings` settings, and the difference `value` - `baseline`.

    `p_corrected` is corrected over the rows of the same section, of all comparisons together.
    """

    compared: str
    section: Section
    name: str
    kind: str
    query_language: str
    candidate_language: str
    num_settings: int
    num_queries: int
    baseline: float
    value: float
    difference: float
    low: float
    high: float
    p_value: float
    p_corrected: float


@dataclass(frozen=True)
class _Group:
    """The settings that a row averages."""

    section: Section
    name: str
    kind: str
    pairs: Sequence[Pair]


def compare_results(
    results: Sequence[QueryResults],
    options: ComparisonOptions,
    trained: Mapping[str, Sequence[str] | None],
) -> list[ComparisonRow]:
    """Compare each result with the first.

    Args:
        trained: label -> the languages that the model was trained in, None where unknown; languages are told apart by
            those of the compared model.

    Returns:
        rows of every comparison, summary rows first; within a section in the order of the comparisons.
    """
    baseline = results[0]
    rows = [row for other in results[1:] for row in _rows(baseline, other, options, trained.get(other.label))]
    corrected: list[ComparisonRow] = []
    for section in ("summary", "breakdown", "setting"):
        members = [row for row in rows if row.section == section]
        adjusted = CORRECTIONS[options.correction](np.array([row.p_value for row in members]))
        corrected += [dataclasses.replace(row, p_corrected=float(p)) for row, p in zip(members, adjusted, strict=True)]
    return corrected


def _rows(
    baseline: QueryResults, other: QueryResults, options: ComparisonOptions, trained: Sequence[str] | None
) -> list[ComparisonRow]:
    before, after = baseline.values(options.metric), other.values(options.metric)
    pairs = [pair for pair, values in before.items() if not np.isnan(values).all()]
    number = {pair: index for index, pair in enumerate(pairs)}
    groups = [*_summary(pairs, baseline.subsets), *_breakdown(pairs, trained), *_settings(pairs)]
    ids = [baseline.tables[f"ids/{x}"] for x, _ in pairs]
    estimates = compare(
        question_sums(ids, [after[pair] - before[pair] for pair in pairs]),
        [[number[pair] for pair in group.pairs] for group in groups],
        resamples=options.resamples,
        seed=options.seed,
        confidence=options.confidence,
        interval=options.interval,
    )
    return [
        ComparisonRow(
            compared=other.label,
            section=group.section,
            name=group.name,
            kind=group.kind,
            query_language=group.pairs[0][0] if group.section == "setting" else "",
            candidate_language=group.pairs[0][1] if group.section == "setting" else "",
            num_settings=len(group.pairs),
            num_queries=sum(int((~np.isnan(before[pair])).sum()) for pair in group.pairs),
            baseline=float(np.mean([np.nanmean(before[pair]) for pair in group.pairs])),
            value=float(np.mean([np.nanmean(after[pair]) for pair in group.pairs])),
            difference=float(estimates.difference[row]),
            low=float(estimates.low[row]),
            high=float(estimates.high[row]),
            p_value=float(estimates.p_value[row]),
            p_corrected=float("nan"),
        )
        for row, group in enumerate(groups)
    ]


def kind_of(pair: Pair) -> str:
    """The kind of setting that a (query language, candidate language, "all" or "") is."""
    if pair[1] == NO_PAIR:
        return "by_language"
    if pair[1] == POOL:
        return "multilingual"
    return "monolingual" if pair[0] == pair[1] else "cross_lingual"


def _summary(pairs: Sequence[Pair], subsets: Mapping[str, Sequence[str]]) -> Iterator[_Group]:
    for kind in KINDS:
        members = [pair for pair in pairs if kind_of(pair) == kind]
        if members:
            yield _Group("summary", "mean" if kind == "by_language" else kind.replace("_", "-"), kind, members)
    for name, languages in subsets.items():
        members = [pair for pair in pairs if pair[0] in languages]
        if 0 < len(members) < len(pairs):
            yield _Group("summary", name, "by_language", members)


def _settings(pairs: Sequence[Pair]) -> Iterator[_Group]:
    for pair in pairs:
        name = pair[0] if pair[1] == NO_PAIR else f"{pair[0]} → {pair[1]}"
        yield _Group("setting", name, kind_of(pair), [pair])


def _breakdown(pairs: Sequence[Pair], trained: Sequence[str] | None) -> Iterator[_Group]:
    languages = sorted({x for x, _ in pairs})
    facts = {x: language_facts(x) for x in languages}
    facets: dict[str, dict[str, str]] = {
        "resources": {x: facts[x].resources for x in languages},
        "script": {x: facts[x].script for x in languages},
        "family": {x: facts[x].family for x in languages},
    }
    if trained is not None:
        seen = {language_facts(x).code for x in trained}
        facets["training"] = {x: "seen" if facts[x].code in seen else "unseen" for x in languages}
    for facet, values in facets.items():
        for value in sorted(set(values.values())) if len(set(values.values())) > 1 else ():
            for kind in KINDS:
                for position, side in enumerate((" from", " to") if kind == "cross_lingual" else ("",)):
                    members = [p for p in pairs if kind_of(p) == kind and values[p[position]] == value]
                    if members:
                        of_kind = "" if kind == "by_language" else f": {kind.replace('_', '-')}{side}"
                        yield _Group("breakdown", f"{facet} {value}{of_kind}", kind, members)
