"""The figure of small vectors: bytes a passage against mAP, a panel for every kind of setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybatch.reporting.figures.files import LINE_COLOURS, LINE_STYLES, new_figure
from hybatch.reporting.results import SETTINGS, PairResults

_MARKERS = ("o", "s", "^", "D")


def draw_vectors(models: Mapping[str, Sequence[PairResults]], *, title: str) -> Figure:
    """A line for every model and kind of vectors, through its numbers of dimensions.

    Args:
        models: what the legend calls a model -> its results, each of which says what was ranked.
    """
    figure = new_figure(3.6 * len(SETTINGS), 3.6 + 0.2 * len(models))
    for number, setting in enumerate(SETTINGS, start=1):
        _draw_panel(figure.add_subplot(1, len(SETTINGS), number), models, setting)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", fontsize=8, frameon=False, ncols=3)
    figure.suptitle(title, parse_math=False, fontsize=11)
    return figure


def _draw_panel(axes: Axes, models: Mapping[str, Sequence[PairResults]], setting: str) -> None:
    kinds = list(dict.fromkeys(one.vectors.kind for results in models.values() for one in results if one.vectors))
    for model_number, (model, results) in enumerate(models.items()):
        for kind_number, kind in enumerate(kinds):
            points = sorted(
                (one.vectors.bytes, np.nan if (value := one.summary[setting]["map"]) is None else value)
                for one in results
                if one.vectors and one.vectors.kind == kind
            )
            axes.plot(
                [number for number, _ in points],
                [value for _, value in points],
                LINE_STYLES[kind_number % len(LINE_STYLES)],
                marker=_MARKERS[kind_number % len(_MARKERS)],
                color=LINE_COLOURS[model_number % len(LINE_COLOURS)],
                label=f"{model}, {kind}".replace("$", r"\$"),
            )
    axes.set_xscale("log", base=2)
    axes.set_xlabel("bytes a passage")
    axes.set_ylabel("mAP")
    axes.set_title(setting.replace("_", "-"), fontsize=9)
    axes.grid(alpha=0.25)
