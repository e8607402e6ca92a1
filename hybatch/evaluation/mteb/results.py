"""What mteb measured, as results.json: one row of figures a subset of the task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from hybatch.evaluation.language_figures import summarise
from hybatch.evaluation.results import versions

# mteb rounds what it writes; a result that it found on disk and one just measured must give the same file.
_DIGITS = 6


def task_name(task: Any) -> str:
    """What results.json calls a task of mteb."""
    return f"mteb/{task.metadata.name}"


def row_names(task: Any) -> list[str]:
    """The rows of a task's results: its subsets (a language, or a pair), and their split where there are several."""
    return list(dict(_rows(task)).values())


def to_results(task: Any, measured: Any, *, model: str) -> dict[str, Any]:
    """The object of results.json, in the form of the tasks with one row of figures a language.

    Args:
        task: of mteb; only its subsets and splits are taken.
        measured: mteb's TaskResult.
        model: the encoder's path or hub id.

    Returns:
        {"task": "mteb/<name>", "model", "languages": the rows, "similarity": "cosine", "metrics": [the main score],
        "figures": {row: {main score: value, None where mteb gives none}}, "summary": {"mean": {...}}, "versions"};
        the mean is unweighted, as mteb's own score of a task is.
    """
    metric = task.metadata.main_score
    scores = {(split, row["hf_subset"]): row["main_score"] for split, rows in measured.scores.items() for row in rows}
    figures: Mapping[str, Mapping[str, Any]] = {
        name: {metric: _rounded(scores.get(place))} for place, name in _rows(task)
    }
    return {
        "task": task_name(task),
        "model": model,
        "languages": list(figures),
        "similarity": "cosine",
        "metrics": [metric],
        "figures": figures,
        "summary": summarise(figures, {}),
        "versions": versions() | {"mteb": version("mteb"), "sentence-transformers": version("sentence-transformers")},
    }


def _rounded(score: float | None) -> float | None:
    return None if score is None or not math.isfinite(score) else round(score, _DIGITS)


def _rows(task: Any) -> Iterator[tuple[tuple[str, str], str]]:
    """((split, subset), name of the row) of everything that the task measures."""
    languages = task.metadata.hf_subsets_to_langscripts
    for split in task.eval_splits:
        for subset in task.hf_subsets:
            name = subset if subset != "default" else "-".join(languages[subset])
            yield (split, subset), name if len(task.eval_splits) == 1 else f"{name} ({split})"
