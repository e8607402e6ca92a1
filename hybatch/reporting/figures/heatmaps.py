"""Heatmaps of the language pairs.

Colours are viridis (one result) and purple-orange (a difference): both read the same with any colour vision, and
every cell carries its number.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from hybatch.reporting.figures.files import DPI
from hybatch.reporting.results import SETTINGS, PairResults

_CELL_INCHES = 0.56
_MISSING = "0.85"
_TITLE_POINTS, _NAME_POINTS = 11, 10


def draw_heatmap(results: PairResults, *, title: str = "") -> Figure:
    """mAP of every (query language, candidate language), and beside it of the pool of all languages.

    Args:
        title: default: task and model.
    """
    return draw_matrix(
        map_matrix(results),
        results.languages,
        title=title or f"{results.task}: {results.marked(results.model)}",
        subtitle=_subtitle(results),
        limit=1.0,
    )


def draw_difference_heatmap(results: PairResults, baseline: PairResults, *, title: str = "") -> Figure:
    """The mAP of `results` minus that of `baseline`, for every cell of `draw_heatmap`.

    Raises:
        ValueError: the results are of different tasks or languages.
    """
    if (results.task, results.languages) != (baseline.task, baseline.languages):
        raise ValueError("a difference needs two results of one task and the same languages")
    return draw_difference_matrix(
        map_matrix(results) - map_matrix(baseline),
        results.languages,
        title=title or f"{results.task}: {results.marked(results.model)} minus {baseline.marked(baseline.model)}",
    )


def map_matrix(results: PairResults) -> np.ndarray:
    """[G, G + 1] mAP; the last column is the multilingual pool; NaN where no query has a positive."""
    languages = results.languages
    rows = [[*(results.pairs[x][y]["map"] for y in languages), results.multilingual[x]["map"]] for x in languages]
    return np.array(rows, dtype=np.float64)


def _subtitle(results: PairResults) -> str:
    parts = []
    for setting in SETTINGS:
        value = results.summary[setting]["map"]
        if value is not None:
            parts.append(f"{setting.replace('_', '-')} {value:.3f}")
    return "mAP: " + ", ".join(parts)


def draw_matrix(values: np.ndarray, languages: Sequence[str], *, title: str, subtitle: str, limit: float) -> Figure:
    """A heatmap of mAP.

    Args:
        values: [G, G + 1] as `map_matrix` gives them.
        limit: where the colours end, so that heatmaps that stand together share one scale.
    """
    return draw_cells(
        values,
        languages,
        title=f"{title}\n{subtitle}" if subtitle else title,
        label="mAP",
        colours="viridis",
        norm=Normalize(0.0, limit),
        form="{:.3f}",
    )


def draw_difference_matrix(
    values: np.ndarray, languages: Sequence[str], *, title: str, limit: float | None = None
) -> Figure:
    """A heatmap of differences of mAP, no difference in the middle of the colours.

    Args:
        values: [G, G + 1].
        limit: the difference where the colours end on either side; default: the largest there is.
    """
    reach = float(np.nanmax(np.abs(values), initial=0.0)) if limit is None else limit
    return draw_cells(
        values,
        languages,
        title=title,
        label="difference of mAP",
        colours="PuOr",
        norm=Normalize(-max(reach, 1e-3), max(reach, 1e-3)),
        form="{:+.3f}",
    )


def draw_cells(
    values: np.ndarray,
    languages: Sequence[str],
    *,
    title: str,
    label: str,
    colours: str,
    norm: Normalize,
    form: str,
    beside: tuple[str, str] = ("all", "pool"),
) -> Figure:
    """A cell for every pair of languages and, set apart, one more for every query language.

    Args:
        values: [G, G + 1], NaN where there is no figure.
        label: of the colours. form: of the numbers in the cells.
        beside: what the last column is called, and the label below it.
    """
    count = len(languages)
    left, top = 0.5 + 0.09 * max(map(len, languages)), 0.3 + 0.25 * len(title.splitlines())
    # Names that are wider than a cell, such as eng_Latn, would run into each other side by side.
    names_width = _inches("\n".join(languages), _NAME_POINTS)
    turned = names_width > 0.95 * _CELL_INCHES
    bottom = 0.7 if not turned else 0.5 + names_width
    width, height = left + _CELL_INCHES * (count + 1) + 1.4, top + _CELL_INCHES * count + bottom
    spare = max(0.0, _inches(title, _TITLE_POINTS) + 0.3 - width)
    left, width = left + spare / 2, width + spare
    # Cells have one size in every heatmap, so nothing is left to a layout engine, which would take most of the time.
    figure = Figure(figsize=(width, height), dpi=DPI)

    def place(x: float, columns: float) -> tuple[float, float, float, float]:
        return x / width, bottom / height, columns * _CELL_INCHES / width, count * _CELL_INCHES / height

    pool_left = left + _CELL_INCHES * count + 0.15
    pairs_axes, pool_axes = figure.add_axes(place(left, count)), figure.add_axes(place(pool_left, 1))
    colour_map = matplotlib.colormaps[colours].with_extremes(bad=_MISSING)
    for axes, part, names in ((pairs_axes, values[:, :count], languages), (pool_axes, values[:, count:], beside[:1])):
        image = axes.imshow(part, cmap=colour_map, norm=norm, aspect="auto", interpolation="none")
        axes.set_xticks(range(len(names)), names)
        axes.tick_params(length=0)
        _write_cells(axes, part, colour_map(norm(part)), form)
        axes.spines[:].set_visible(False)
    pairs_axes.set_yticks(range(count), languages)
    pairs_axes.tick_params(axis="x", labelrotation=90 if turned else 0)
    # Below a single cell it would reach under the pool's.
    pairs_axes.set_xlabel("candidate language", loc="right" if count == 1 else "center")
    pairs_axes.set_ylabel("query language")
    pool_axes.set_yticks([])
    pool_axes.set_xlabel(beside[1])
    figure.suptitle(title, parse_math=False, fontsize=_TITLE_POINTS, y=1 - 0.15 / height, va="top")
    bar = place(pool_left + _CELL_INCHES + 0.15, 0.3)
    figure.colorbar(image, cax=figure.add_axes(bar), label=label)
    return figure


def _inches(text: str, points: float) -> float:
    """How wide a text of one or more lines is drawn."""
    figure = Figure(dpi=DPI)
    drawn = figure.text(0, 0, text, fontsize=points, parse_math=False)
    return float(drawn.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width) / DPI


def _write_cells(axes: Axes, values: np.ndarray, rgba: np.ndarray, form: str) -> None:
    luminance = rgba[..., :3] @ np.array([0.299, 0.587, 0.114])
    for (row, column), value in np.ndenumerate(values):
        missing = np.isnan(value)
        text = "–" if missing else form.format(value).replace("0.", ".", 1)
        dark = missing or luminance[row, column] > 0.5
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color="black" if dark else "white")
