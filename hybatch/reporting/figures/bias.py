"""Figures of language bias: the languages of what is found first, and the metrics of several results against mAP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from hybatch.evaluation.settings.bias_metrics import BIAS_METRICS, BiasMetric
from hybatch.reporting.figures.files import LINE_COLOURS, new_figure
from hybatch.reporting.figures.heatmaps import draw_cells
from hybatch.reporting.results import PairResults
from hybatch.reporting.tables.measured import Measured

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_BETTER = {True: "higher is better", False: "lower is better", None: ""}


def draw_first_languages(results: PairResults, *, title: str) -> Figure | None:
    """The share of each language among the first candidates of each query language, rows adding up to 1.

    Beside it the share of queries whose first candidate is no answer. None for results from before these were counted.
    """
    bias = results.language_bias
    if bias is None:
        return None
    rows = [
        [*((bias.first[x] or {}).get(y) for y in results.languages), _wrong_first(results, x)]
        for x in results.languages
    ]
    return draw_cells(
        np.array(rows, dtype=np.float64),
        results.languages,
        title=f"{title}\nlanguage of the first candidate in the pool of all languages",
        label="share of the queries",
        colours="viridis",
        norm=Normalize(0.0, 1.0),
        form="{:.2f}",
        beside=("no answer", ""),
    )


def _wrong_first(results: PairResults, language: str) -> float | None:
    assert results.language_bias is not None
    figures = results.language_bias.multilingual[language]
    shares = [figures.get(name) for name in ("first_wrong_own", "first_wrong_other")]
    return None if None in shares else sum(share for share in shares if share is not None)


def draw_bias_against_map(measured: Sequence[Measured[PairResults]], *, title: str) -> Figure | None:
    """A panel for every headline metric, a point for every result: its mAP in the pool of all languages to the right.

    None where fewer than two results have any such figure.
    """
    shown = [one for one in measured if one.results.language_bias]
    panels = [
        metric
        for metric in BIAS_METRICS.values()
        if metric.is_headline and any(one.results.bias_mean(metric) is not None for one in shown)
    ]
    if len(shown) < 2 or not panels:
        return None
    figure = new_figure(3.4 * len(panels), 3.4 + 0.2 * len(shown))
    for number, metric in enumerate(panels, start=1):
        _draw_panel(figure.add_subplot(1, len(panels), number), shown, metric)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", fontsize=8, frameon=False)
    figure.suptitle(title, parse_math=False, fontsize=11)
    return figure


def _draw_panel(axes: Axes, shown: Sequence[Measured[PairResults]], metric: BiasMetric) -> None:
    for number, one in enumerate(shown):
        # A result without the figure stands in the legend all the same.
        place = [one.results.summary["multilingual"]["map"], one.results.bias_mean(metric)]
        x, y = (np.nan if value is None else value for value in place)
        axes.plot(
            [x],
            [y],
            _MARKERS[number % len(_MARKERS)],
            color=LINE_COLOURS[number % len(LINE_COLOURS)],
            label=one.label.replace("$", r"\$"),
        )
    axes.set_xlabel("multilingual mAP")
    axes.set_ylabel(metric.label)
    axes.set_title(_BETTER[metric.higher_is_better], fontsize=9)
    axes.grid(alpha=0.25)
