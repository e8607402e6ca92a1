"""The published figures that measured ones stand beside.

`published.csv` holds the result tables of arXiv 2408.10536 (*Synergistic Approach for Simultaneous Optimization of
Monolingual, Cross-lingual, and Multilingual Information Retrieval*) as printed, and LAReQA's mBERT baselines
(arXiv 2004.05484), in long form: model, dataset, setting, metric, language, sampling, value. `language` is that of
the query; "mean" is the printed mean over languages, also where it does not follow from its rows.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from hybatch.reporting.samplings import sampling_label

SOURCE = "arXiv 2408.10536"
SOURCE_WITH_BASELINES = f"{SOURCE}; mBERT: arXiv 2004.05484"
_NAMES = {"xlm-r": "XLM-R", "labse": "LaBSE"}
# LAReQA's models are called by their sampling: mbert-x-y.
_BASELINE, _BASELINE_NAME = "mbert-", "mBERT"


@dataclass(frozen=True)
class PublishedFigure:
    """One printed number; `setting` is "monolingual", "cross_lingual" or "multilingual"."""

    model: str
    dataset: str
    setting: str
    metric: str
    language: str
    sampling: str
    value: float


@cache
def published_figures() -> tuple[PublishedFigure, ...]:
    """All of them, in the order of the file."""
    text = files("hybatch.reporting.tables").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedFigure(**{**row, "value": float(row["value"])})  # type: ignore[arg-type]
        for row in csv.DictReader(io.StringIO(text))
    )


def published_models(dataset: str) -> list[tuple[str, str]]:
    """(model, sampling) with per-language figures for a data set, in the order of the paper's Table 1."""
    return list(
        dict.fromkeys(
            (figure.model, figure.sampling)
            for figure in published_figures()
            if figure.dataset == dataset and figure.language != "mean"
        )
    )


def published_name(model: str) -> str:
    """What tables call a published model."""
    return _BASELINE_NAME if model.startswith(_BASELINE) else _NAMES.get(model, model)


def published_label(model: str, sampling: str) -> str:
    """What tables call a row of published figures."""
    return f"{published_name(model)} {sampling_label(sampling)} (published)"


def is_baseline(label: str) -> bool:
    """Whether a row of published figures is one of LAReQA's."""
    return label.startswith(_BASELINE_NAME)


def published_value(
    model: str, sampling: str, dataset: str, setting: str, metric: str, language: str = "mean"
) -> float | None:
    """One figure, or None where the paper prints none."""
    key = (model, dataset, setting, metric, language, sampling)
    return _table().get(key)


def published_languages(dataset: str) -> list[str]:
    """The languages that the paper reports for a data set, in alphabetical order; none for another data set."""
    return sorted({f.language for f in published_figures() if f.dataset == dataset} - {"mean"})


@cache
def _table() -> dict[tuple[str, ...], float]:
    return {(f.model, f.dataset, f.setting, f.metric, f.language, f.sampling): f.value for f in published_figures()}
