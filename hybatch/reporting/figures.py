"""Heatmaps of the language pairs and learning curves, as PNG.

Colours are viridis (one result) and purple-orange (a difference): both read the same with any colour vision, and
every cell carries its number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hybatch.atomic import atomic_file

_CELL_INCHES = 0.56
_MISSING = "0.85"
_LINE_STYLES = ("-", "--", "-.", ":")
# Okabe and Ito's palette, made to be told apart with any colour vision.
_LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def write_heatmap(results: Mapping[str, Any], path: Path, *, title: str = "") -> None:
    """Draw mAP of every (query language, candidate language), and beside it of the pool of all languages.

    Args:
        results: the object of results.json.
        title: default: task and model.
    """
    _write_matrix(
        _map_matrix(results),
        list(results["languages"]),
        path,
        title=title or f"{results['task']}: {results['model']}",
        subtitle=_subtitle(results),
        label="mAP",
        colours="viridis",
        norm=Normalize(0.0, 1.0),
        form="{:.3f}",
    )


def write_difference_heatmap(
    results: Mapping[str, Any], baseline: Mapping[str, Any], path: Path, *, title: str = ""
) -> None:
    """Draw the mAP of `results` minus that of `baseline`, for every cell of `write_heatmap`.

    Raises:
        ValueError: the results are of different tasks or languages.
    """
    if (results["task"], results["languages"]) != (baseline["task"], baseline["languages"]):
        raise ValueError("a difference needs two results of one task and the same languages")
    difference = _map_matrix(results) - _map_matrix(baseline)
    reach = max(float(np.nanmax(np.abs(difference), initial=0.0)), 1e-3)
    _write_matrix(
        difference,
        list(results["languages"]),
        path,
        title=title or f"{results['task']}: {results['model']} minus {baseline['model']}",
        subtitle="",
        label="difference of mAP",
        colours="PuOr",
        norm=Normalize(-reach, reach),
        form="{:+.3f}",
    )


def _map_matrix(results: Mapping[str, Any]) -> np.ndarray:
    """[G, G + 1] mAP; the last column is the multilingual pool; NaN where no query has a positive."""
    languages = results["languages"]
    rows = [[*(results["pairs"][x][y]["map"] for y in languages), results["multilingual"][x]["map"]] for x in languages]
    return np.array(rows, dtype=np.float64)


def _subtitle(results: Mapping[str, Any]) -> str:
    parts = []
    for setting in ("monolingual", "cross_lingual", "multilingual"):
        value = results["summary"][setting]["map"]
        if value is not None:
            parts.append(f"{setting.replace('_', '-')} {value:.3f}")
    return "mAP: " + ", ".join(parts)


def _write_matrix(
    values: np.ndarray,
    languages: list[str],
    path: Path,
    *,
    title: str,
    subtitle: str,
    label: str,
    colours: str,
    norm: Normalize,
    form: str,
) -> None:
    count = len(languages)
    figure = Figure(figsize=(_CELL_INCHES * (count + 1) + 2.6, _CELL_INCHES * count + 1.7), layout=_layout())
    FigureCanvasAgg(figure)
    pairs_axes, pool_axes = figure.subplots(1, 2, sharey=True, width_ratios=[count, 1])
    colour_map = matplotlib.colormaps[colours].with_extremes(bad=_MISSING)
    for axes, part, names in ((pairs_axes, values[:, :count], languages), (pool_axes, values[:, count:], ["all"])):
        image = axes.imshow(part, cmap=colour_map, norm=norm, aspect="auto")
        axes.set_xticks(range(len(names)), names)
        axes.tick_params(length=0)
        _write_cells(axes, part, colour_map(norm(part)), form)
        for side in axes.spines.values():
            side.set_visible(False)
    pairs_axes.set_yticks(range(count), languages)
    pairs_axes.set_xlabel("candidate language")
    pairs_axes.set_ylabel("query language")
    pool_axes.set_xlabel("pool")
    pool_axes.tick_params(labelleft=False)
    figure.suptitle(f"{title}\n{subtitle}" if subtitle else title, fontsize=11)
    figure.colorbar(image, ax=[pairs_axes, pool_axes], label=label, fraction=0.04, pad=0.02)
    _save(figure, path)


def _write_cells(axes: Axes, values: np.ndarray, rgba: np.ndarray, form: str) -> None:
    luminance = rgba[..., :3] @ np.array([0.299, 0.587, 0.114])
    for (row, column), value in np.ndenumerate(values):
        missing = np.isnan(value)
        text = "–" if missing else form.format(value).replace("0.", ".", 1)
        dark = missing or luminance[row, column] > 0.5
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="black" if dark else "white")


def write_learning_curves(
    panels: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], path: Path, *, title: str
) -> None:
    """Draw curves over the steps, panels side by side.

    Args:
        panels: label of the axis -> name of the curve -> (step, value), not empty.
    """
    figure = Figure(figsize=(4.6 * len(panels), 3.8), layout=_layout())
    FigureCanvasAgg(figure)
    for number, (label, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), number)
        for i, (name, points) in enumerate(curves.items()):
            steps, values = zip(*points, strict=True)
            style, colour = _LINE_STYLES[i % len(_LINE_STYLES)], _LINE_COLOURS[i % len(_LINE_COLOURS)]
            marker = "o" if len(points) < 30 else None
            axes.plot(steps, values, style, color=colour, label=name, marker=marker, markersize=3, linewidth=1.4)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11)
    _save(figure, path)


def _layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
