"""The results of tasks that have one row of figures a language, rather than a table of language pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hybatch.evaluation.embeddings import TaskEmbeddings
from hybatch.evaluation.results import versions
from hybatch.evaluation.settings.metrics import mean
from hybatch.evaluation.task import TextsTask

_COUNTS = ("num_queries", "num_skipped")


def figures_results(
    embeddings: TaskEmbeddings,
    task: TextsTask,
    figures: Mapping[str, Mapping[str, Any]],
    *,
    model: str,
    subsets: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The object of results.json.

    Returns:
        {"task", "model", "languages", "similarity", "num_queries", "num_candidates",
        "metrics": their names, the task's main one first,
        "figures": {language: {metric: value, "num_queries": n}}, "summary": {"mean" | subset: means},
        "subsets": {subset: its languages}, where there are any, "versions"};
        the summary's means are unweighted, over the languages that have the figure.
    """
    return {
        "task": task.name,
        "model": model,
        "languages": list(task.languages),
        "similarity": embeddings.similarity,
        "num_queries": {language: len(texts) for language, texts in sorted(task.queries.items())},
        "num_candidates": {language: len(texts) for language, texts in sorted(task.candidates.items())},
        "metrics": metrics_of(figures),
        "figures": {language: dict(row) for language, row in figures.items()},
        "summary": summarise(figures, subsets or {}),
        **({"subsets": {name: list(listed) for name, listed in subsets.items() if listed}} if subsets else {}),
        "versions": versions(),
    }


def summarise(
    figures: Mapping[str, Mapping[str, Any]], subsets: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """Unweighted means of every metric over all languages, and over each subset that has any of them."""
    chosen = {"mean": list(figures), **{name: [x for x in listed if x in figures] for name, listed in subsets.items()}}
    return {
        name: {
            **{
                metric: mean(figures[x][metric] for x in listed if figures[x].get(metric) is not None)
                for metric in metrics_of(figures)
            },
            "num_languages": len(listed),
        }
        for name, listed in chosen.items()
        if listed
    }


def metrics_of(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The metrics that any language has, in their order of appearance, counts left out."""
    names = dict.fromkeys(name for row in figures.values() for name in row)
    return [name for name in names if name not in _COUNTS]
