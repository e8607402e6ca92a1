"""The terminal table of one evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from hybatch.evaluation.settings.bias_metrics import BIAS_METRICS
from hybatch.evaluation.settings.metrics import mean


def cross_lingual_means(results: Mapping[str, Any], metric: str = "map") -> dict[str, float | None]:
    """Per query language, the unweighted mean over the other candidate languages that have figures."""
    return {
        language: mean(
            figures[metric] for other, figures in row.items() if other != language and figures[metric] is not None
        )
        for language, row in results["pairs"].items()
    }


def results_table(results: Mapping[str, Any]) -> Table:
    """One row per query language, the means below.

    Columns: mAP in the three kinds of setting and the rank distance, or a column a metric where the results are of a
    task with one row of figures a language.
    """
    return _settings_table(results) if "pairs" in results else _figures_table(results)


def _settings_table(results: Mapping[str, Any]) -> Table:
    table = Table(
        title=f"{results['task']}: {results['model']}",
        caption=f"mAP; cross-lingual: mean over the other candidate languages; ranked by: {results['backend']}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("query language")
    for heading in ("queries", "candidates", "monolingual", "cross-lingual", "multilingual", "rank distance"):
        table.add_column(heading, justify="right")
    crossed = cross_lingual_means(results)
    for language in results["languages"]:
        pool = results["multilingual"][language]
        table.add_row(
            language,
            str(results["num_queries"][language]),
            str(results["num_candidates"][language]),
            _figure(results["pairs"][language][language]["map"]),
            _figure(crossed[language]),
            _figure(pool["map"]),
            _figure(pool["rank_distance"], digits=1),
        )
    summary = results["summary"]
    table.add_section()
    table.add_row(
        "mean",
        str(sum(results["num_queries"].values())),
        str(sum(results["num_candidates"].values())),
        _figure(summary["monolingual"]["map"]),
        _figure(summary["cross_lingual"]["map"]),
        _figure(summary["multilingual"]["map"]),
        _figure(summary["multilingual"]["rank_distance"], digits=1),
        style="bold",
    )
    return table


def vectors_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """One row per choice of vectors of one encoding: what a passage takes, and the means over languages and pairs."""
    table = Table(
        title=f"{results[0]['task']}: {results[0]['model']}",
        caption="mAP; ties: multilingual with every tie broken against the positives, and for them; ranked by: "
        + ", ".join(sorted({one["backend"] for one in results})),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("vectors")
    for heading in ("dimensions", "bytes", "monolingual", "cross-lingual", "multilingual", "ties", "rank distance"):
        table.add_column(heading, justify="right")
    for one in results:
        vectors, summary, ties = one["vectors"], one["summary"], one["ties"]
        table.add_row(
            vectors["kind"],
            str(vectors["dimensions"]),
            str(vectors["bytes"]),
            *(_figure(summary[setting]["map"]) for setting in ("monolingual", "cross_lingual", "multilingual")),
            f"{_figure(ties['map_pessimistic'])} to {_figure(ties['map_optimistic'])}",
            _figure(summary["multilingual"]["rank_distance"], digits=1),
        )
    return table


_DIRECTIONS = {True: "higher", False: "lower", None: ""}


def bias_table(results: Mapping[str, Any]) -> Table | None:
    """One row per bias metric: its mean over the query languages, and those where it is least and greatest.

    None where the task has no pool of several languages; metrics without a figure are left out.
    """
    if "language_bias" not in results:
        return None
    bias = results["language_bias"]
    table = Table(
        title=f"{results['task']}: language bias",
        caption="means over the languages; what each metric is: docs/evaluation.md",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("metric")
    for heading in ("mean", "least", "greatest", "better"):
        table.add_column(heading, justify="right")
    group = None
    for metric in BIAS_METRICS.values():
        figures = {x: row[metric.name] for x, row in bias[metric.pool].items() if row[metric.name] is not None}
        if not figures:
            continue
        if metric.group != group:
            table.add_section()
        group = metric.group
        ends = (end(figures, key=figures.__getitem__) for end in (min, max))
        table.add_row(
            metric.label,
            _figure(bias["summary"][metric.pool][metric.name], metric.digits),
            *(f"{x} {_figure(figures[x], metric.digits)}" for x in ends),
            _DIRECTIONS[metric.higher_is_better],
        )
    return table


def _figures_table(results: Mapping[str, Any]) -> Table:
    metrics = results["metrics"]
    table = Table(
        title=f"{results['task']}: {results['model']}",
        caption=_own_documents(results),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("language")
    for heading in ("queries", *metrics):
        table.add_column(heading.replace("_", " "), justify="right")
    for language, row in results["figures"].items():
        table.add_row(language, str(row.get("num_queries", "–")), *(_figure(row.get(metric)) for metric in metrics))
    table.add_section()
    for name, row in results["summary"].items():
        label = f"{name} ({row['num_languages']})"
        table.add_row(label, "", *(_figure(row[metric]) for metric in metrics), style="bold")
    return table


def _own_documents(results: Mapping[str, Any]) -> str | None:
    counts = results.get("own_documents")
    if not counts:
        return None
    out, kept = (sum(one[name] for one in counts.values()) for name in ("left_out", "kept"))
    return f"passages with the id of the query asked: {out:,} left out, {kept:,} kept (--own-documents)"


def _figure(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
