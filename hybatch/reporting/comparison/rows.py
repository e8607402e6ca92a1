"""Rows of a comparison: each result against the first, overall, by kinds of languages, and in every setting."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np

from hybatch.evaluation.settings.bias_metrics import BIAS_METRICS
from hybatch.reporting.comparison.language_facts import language_facts
from hybatch.reporting.comparison.query_results import (
    BIAS_METRICS_BEFORE,
    NO_PAIR,
    PAIR_POOL,
    POOL,
    QueryResults,
)
from hybatch.reporting.comparison.significance import Interval, benjamini_hochberg, compare, holm, question_sums

Section = Literal["summary", "breakdown", "setting", "bias"]
Pair = tuple[str, str]
K = TypeVar("K", bound=tuple[str, ...])
"""What tells settings apart: a `Pair`, or (metric, query language, candidate language)."""
CORRECTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"holm": holm, "bh": benjamini_hochberg}
KINDS = ("monolingual", "cross_lingual", "multilingual", "bilingual", "by_language")


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
class _Group(Generic[K]):
    """The settings that a row averages."""

    section: Section
    name: str
    kind: str
    settings: Sequence[K]


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
    return [row for section in ("summary", "breakdown", "setting") for row in _corrected(rows, section, options)]


def compare_bias(results: Sequence[QueryResults], options: ComparisonOptions) -> list[ComparisonRow]:
    """Compare each result with the first by every bias metric that all of them have, whatever `options.metric`.

    All metrics are judged by the same resamples. The differences are means over the query languages; `name` is the
    metric's, and p is corrected over all rows. There are none where a result is from before the metrics were, so that
    such results are compared as they always were.
    """
    baseline = results[0]
    metrics = [name for name in baseline.bias_metrics if all(name in one.bias_metrics for one in results)]
    if set(metrics) <= set(BIAS_METRICS_BEFORE):
        return []
    rows = [row for other in results[1:] for row in _bias_rows(baseline, other, options, metrics)]
    return _corrected(rows, "bias", options)


def _corrected(rows: Sequence[ComparisonRow], section: Section, options: ComparisonOptions) -> list[ComparisonRow]:
    """The rows of a section with `p_corrected`."""
    members = [row for row in rows if row.section == section]
    adjusted = CORRECTIONS[options.correction](np.array([row.p_value for row in members]))
    return [dataclasses.replace(row, p_corrected=float(p)) for row, p in zip(members, adjusted, strict=True)]


def _bias_rows(
    baseline: QueryResults, other: QueryResults, options: ComparisonOptions, metrics: Sequence[str]
) -> list[ComparisonRow]:
    before, after = (
        {(metric, *pair): values for metric in metrics for pair, values in one.values(metric).items()}
        for one in (baseline, other)
    )
    keys = [key for key, values in before.items() if not np.isnan(values).all()]
    groups = [
        _Group("bias", metric, BIAS_METRICS[metric].pool, [key for key in keys if key[0] == metric])
        for metric in metrics
    ]
    ids = {key: baseline.tables[f"ids/{key[1]}"] for key in keys}
    return _judged(other.label, groups, ids, before, after, options)


def _rows(
    baseline: QueryResults, other: QueryResults, options: ComparisonOptions, trained: Sequence[str] | None
) -> list[ComparisonRow]:
    before, after = baseline.values(options.metric), other.values(options.metric)
    pairs = [pair for pair, values in before.items() if not np.isnan(values).all()]
    groups = [*_summary(pairs, baseline.subsets), *_breakdown(pairs, trained), *_settings(pairs)]
    ids = {pair: baseline.tables[f"ids/{pair[0]}"] for pair in pairs}
    return _judged(other.label, groups, ids, before, after, options)


def _judged(
    compared: str,
    groups: Sequence[_Group[K]],
    ids: Mapping[K, np.ndarray],
    before: Mapping[K, np.ndarray],
    after: Mapping[K, np.ndarray],
    options: ComparisonOptions,
) -> list[ComparisonRow]:
    """A row for every group of settings, without `p_corrected`; `ids` says which settings there are."""
    number = {key: index for index, key in enumerate(ids)}
    estimates = compare(
        question_sums(list(ids.values()), [after[key] - before[key] for key in ids]),
        [[number[key] for key in group.settings] for group in groups],
        resamples=options.resamples,
        seed=options.seed,
        confidence=options.confidence,
        interval=options.interval,
    )
    return [
        ComparisonRow(
            compared=compared,
            section=group.section,
            name=group.name,
            kind=group.kind,
            query_language=group.settings[0][0] if group.section == "setting" else "",
            candidate_language=group.settings[0][1] if group.section == "setting" else "",
            num_settings=len(group.settings),
            num_queries=sum(int((~np.isnan(before[key])).sum()) for key in group.settings),
            baseline=float(np.mean([np.nanmean(before[key]) for key in group.settings])),
            value=float(np.mean([np.nanmean(after[key]) for key in group.settings])),
            difference=float(estimates.difference[row]),
            low=float(estimates.low[row]),
            high=float(estimates.high[row]),
            p_value=float(estimates.p_value[row]),
            p_corrected=float("nan"),
        )
        for row, group in enumerate(groups)
    ]


def kind_of(pair: Pair) -> str:
    """The kind of setting that a (query language, candidate language or pool, or "") is."""
    if pair[1] == NO_PAIR:
        return "by_language"
    if pair[1] in (POOL, PAIR_POOL):
        return "multilingual" if pair[1] == POOL else "bilingual"
    return "monolingual" if pair[0] == pair[1] else "cross_lingual"


def _summary(pairs: Sequence[Pair], subsets: Mapping[str, Sequence[str]]) -> Iterator[_Group[Pair]]:
    for kind in KINDS:
        members = [pair for pair in pairs if kind_of(pair) == kind]
        if members:
            yield _Group("summary", "mean" if kind == "by_language" else kind.replace("_", "-"), kind, members)
    for name, languages in subsets.items():
        members = [pair for pair in pairs if pair[0] in languages]
        if 0 < len(members) < len(pairs):
            yield _Group("summary", name, "by_language", members)


def _settings(pairs: Sequence[Pair]) -> Iterator[_Group[Pair]]:
    for pair in pairs:
        name = pair[0] if pair[1] == NO_PAIR else f"{pair[0]} → {pair[1]}"
        yield _Group("setting", name, kind_of(pair), [pair])


def _breakdown(pairs: Sequence[Pair], trained: Sequence[str] | None) -> Iterator[_Group[Pair]]:
    # Of candidates, too: a language may have passages and no question.
    languages = sorted({x for pair in pairs for x in pair} - {POOL, PAIR_POOL, NO_PAIR})
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
