"""results.json objects with known figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from hybatch.evaluation.settings.bias_metrics import BILINGUAL, MULTILINGUAL, POOLS, metrics_of
from hybatch.evaluation.settings.metrics import mean
from hybatch.evaluation.settings.scoring import METRICS
from hybatch.reporting.results import PairResults, results_from
from hybatch.reporting.tables.measured import Measured

MLQA_LANGUAGES = ("ar", "de", "en", "es", "hi", "vi", "zh")


def checked(value: dict[str, Any]) -> PairResults:
    """What reports make of the object of a results.json in every language setting."""
    results = results_from(value, "results.json")
    assert isinstance(results, PairResults)
    return results


def make_measured(label: str, *arguments: Any, **options: Any) -> Measured[PairResults]:
    """`make_results`, called by its model."""
    return Measured(label, checked(make_results(label, *arguments, **options)))


def make_results(
    model: str, level: float = 0.5, task: str = "mlqa-r", languages: tuple[str, ...] = MLQA_LANGUAGES
) -> dict[str, Any]:
    """Figures near `level`, the diagonal 0.2 above it; summary means follow from them."""
    rng = np.random.default_rng(len(model))

    def figures(value: float, **more: float) -> dict[str, Any]:
        return {**dict.fromkeys(METRICS, value), "num_queries": 5, "num_skipped": 1, **more}

    pairs = {
        x: {y: figures(level + (0.2 if x == y else 0.0) + float(rng.normal(0, 0.02))) for y in languages}
        for x in languages
    }
    pool = {x: figures(level - 0.1, rank_distance=100.0 + 10 * i) for i, x in enumerate(languages)}
    cells = {
        "monolingual": [pairs[x][x] for x in languages],
        "cross_lingual": [pairs[x][y] for x in languages for y in languages if x != y],
        "multilingual": list(pool.values()),
    }
    summary: dict[str, dict[str, Any]] = {
        setting: {
            **{m: float(np.mean([f[m] for f in listed])) if listed else None for m in METRICS},
            "num_settings": len(listed),
        }
        for setting, listed in cells.items()
    }
    summary["multilingual"]["rank_distance"] = float(np.mean([f["rank_distance"] for f in pool.values()]))
    return {
        "task": task,
        "model": model,
        "languages": list(languages),
        "backend": "torch",
        "num_queries": dict.fromkeys(languages, 6),
        "num_candidates": dict.fromkeys(languages, 9),
        "pairs": pairs,
        "multilingual": pool,
        "summary": summary,
        "ties": {"positives_tied": 0, "map_optimistic": 0.4, "map_pessimistic": 0.4},
        "versions": {"hybatch": "0"},
    }


def with_bias(results: dict[str, Any], level: float = 0.5, pivot: str | None = "en") -> dict[str, Any]:
    """The results with figures of every bias metric near `level`; of PEER of the answers there are none."""
    languages = results["languages"]
    asked = {MULTILINGUAL: languages, BILINGUAL: [x for x in languages if x != pivot] if pivot else []}
    figures = {
        pool: {
            x: {m.name: None if m.name.startswith("peer_answers") else level + i / 100 for m in metrics_of(pool)}
            for i, x in enumerate(asked[pool])
        }
        for pool in POOLS
    }
    summary = {
        pool: {
            m.name: mean(row[m.name] for row in figures[pool].values() if row[m.name] is not None)
            for m in metrics_of(pool)
        }
        for pool in POOLS
    }
    first = {x: {y: 1 / len(languages) for y in languages} for x in languages}
    return results | {"language_bias": {"pivot": pivot, **figures, "summary": summary, "first": first}}
