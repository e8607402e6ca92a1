"""What the sampling does: mAP against alpha, rank distance by language, the trade-off of settings, learning curves.

Each function draws one figure with a panel a family, or None where the grid has nothing of the kind. Bars are
standard deviations over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybatch.reporting.figures.curves import Curve, learning_curves
from hybatch.reporting.figures.files import LINE_COLOURS, LINE_STYLES, new_figure
from hybatch.reporting.grids.families import Family, Style, families, styles
from hybatch.reporting.grids.groups import Estimate, Grid, Group, RunFigure, language_figure, summary_figure
from hybatch.reporting.grids.tables.rows import task_name
from hybatch.reporting.results import SETTINGS
from hybatch.sampling.kinds import CROSS_LINGUAL, KINDS, MONOLINGUAL

_MARKERS = ("o", "s", "^")
_STRETCHES = 50
_MONO, _CROSS = KINDS[MONOLINGUAL].label, KINDS[CROSS_LINGUAL].label


def draw_alpha(grid: Grid, task: str) -> Figure | None:
    """mAP of the three settings against the share of X-X-mono batches: X-Y at 0, X-X-mono at 1, hybrid between."""
    shown = [(family, by_alpha(family, task)) for family in families(grid)]
    shown = [(family, groups) for family, groups in shown if len(groups) > 1]
    if not shown:
        return None
    figure, panels = _panels([family.title for family, _ in shown], width=3.8, height=3.6)
    for axes, (_, groups) in zip(panels, shown, strict=True):
        for place, setting in enumerate(SETTINGS):
            _draw_setting(axes, groups, summary_figure(task, setting), place, setting.replace("_", "-"))
        axes.set_xlabel(f"alpha, the share of {_MONO} batches")
        axes.set_xticks(list(groups))
        axes.set_ylabel("mAP")
    _finish(figure, panels, f"{task_name(task)}: mAP against alpha (0: {_CROSS}, 1: {_MONO})")
    return figure


def by_alpha(family: Family, task: str) -> dict[float, Group]:
    """Alpha -> its group, ascending; X-Y stands for 0 and X-X-mono for 1."""
    found = {group.mono_share: group for group in family.with_task(task) if group.mono_share is not None}
    return dict(sorted(found.items()))


def _draw_setting(axes: Axes, groups: Mapping[float, Group], figure: RunFigure, place: int, label: str) -> None:
    points = [(alpha, one) for alpha, group in groups.items() if (one := group.estimate(figure)) is not None]
    if not points:
        return
    axes.errorbar(
        [alpha for alpha, _ in points],
        [one.mean for _, one in points],
        yerr=[_spread(one) for _, one in points],
        color=LINE_COLOURS[place],
        linestyle=LINE_STYLES[place],
        marker=_MARKERS[place],
        markersize=5,
        capsize=2,
        label=label,
    )


def draw_rank_distance(grid: Grid, task: str) -> Figure | None:
    """Rank distance of every query language, and the mean over them."""
    shown = [(family, groups) for family in families(grid) if (groups := family.with_task(task))]
    if not shown:
        return None
    languages, looks = grid.languages[task], styles(grid)
    figures = [language_figure(task, "multilingual", language, "rank_distance") for language in languages]
    figures.append(summary_figure(task, "multilingual", "rank_distance"))
    width = max(6.0, 0.72 * len(figures) + 1.2)
    figure, panels = _panels([family.title for family, _ in shown], width=width, height=3.0, columns=1)
    for axes, (_, groups) in zip(panels, shown, strict=True):
        offsets = np.linspace(-0.32, 0.32, len(groups)) if len(groups) > 1 else [0.0]
        for group, offset in zip(groups, offsets, strict=True):
            _draw_dots(axes, group, figures, float(offset), looks[group.label])
        axes.axvline(len(languages) - 0.5, color="0.6", linewidth=0.8)
        axes.set_xticks(range(len(figures)), [*languages, "mean"])
        axes.set_ylim(0, 1.08 * axes.dataLim.y1)
        axes.set_ylabel("rank distance")
    panels[-1].set_xlabel("query language")
    _finish(figure, panels, f"{task_name(task)}: rank distance in the pool of all languages (lower is less bias)")
    return figure


def _draw_dots(axes: Axes, group: Group, figures: Sequence[RunFigure], offset: float, look: Style) -> None:
    points = [(x, one) for x, figure in enumerate(figures) if (one := group.estimate(figure)) is not None]
    axes.errorbar(
        [x + offset for x, _ in points],
        [one.mean for _, one in points],
        yerr=[_spread(one) for _, one in points],
        color=look.colour,
        marker=look.marker,
        linestyle="none",
        markersize=5,
        elinewidth=1,
        label=group.label,
    )


def _spread(estimate: Estimate) -> float:
    """Half a bar; none is drawn for NaN."""
    return math.nan if estimate.sd is None else estimate.sd


def draw_trade_off(grid: Grid, task: str) -> Figure | None:
    """Monolingual against multilingual mAP: each run a faint point, each group's mean a strong one."""
    shown = [(family, groups) for family in families(grid) if (groups := family.with_task(task))]
    if not shown:
        return None
    looks = styles(grid)
    monolingual, multilingual = (summary_figure(task, setting) for setting in ("monolingual", "multilingual"))
    figure, panels = _panels([family.title for family, _ in shown], width=3.8, height=3.6)
    for axes, (_, groups) in zip(panels, shown, strict=True):
        for group in groups:
            points = [(monolingual(run), multilingual(run)) for run in group.runs]
            points_R2 = np.array([point for point in points if None not in point], dtype=np.float64).reshape(-1, 2)
            if not len(points_R2):
                continue
            look = looks[group.label]
            axes.plot(*points_R2.T, look.marker, color=look.colour, markersize=4, alpha=0.45, linestyle="none")
            mean = points_R2.mean(axis=0, keepdims=True)
            axes.plot(*mean.T, look.marker, color=look.colour, markersize=9, linestyle="none", label=group.label)
        axes.set_xlabel("monolingual mAP")
        axes.set_ylabel("multilingual mAP")
        axes.margins(0.15)
    _finish(figure, panels, f"{task_name(task)}: monolingual against multilingual mAP, each run and each mean")
    return figure


def draw_curves(family: Family, looks: Mapping[str, Style]) -> Figure | None:
    """Learning curves of a family, a panel for each kind of batch and each figure of the validation."""
    panels_of: dict[str, dict[str, Curve]] = {}
    for group in family.groups:
        for panel, curve in mean_curves(group).items():
            panels_of.setdefault(panel, {})[group.label] = curve
    if not panels_of:
        return None
    names = sorted(panels_of)  # training before validation
    figure, panels = _panels(names, width=4.0, height=3.2)
    for axes, name in zip(panels, names, strict=True):
        for label, curve in panels_of[name].items():
            look = looks[label]
            axes.plot(*zip(*curve, strict=True), look.line, color=look.colour, label=label, linewidth=1.4)
        axes.set_xlabel("step")
    _finish(
        figure, panels, f"{family.title}: learning curves, means over seeds", [group.label for group in family.groups]
    )
    return figure


def mean_curves(group: Group) -> dict[str, Curve]:
    """Panel -> (step, value): the mean over the group's runs in each of 50 stretches of the training.

    Seeds take their kinds of batch in other orders, so their steps are not the same.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    for run in group.runs:
        for panel, curves in learning_curves(run.curve).items():
            for name, curve in curves.items():
                points.setdefault(panel if name == panel else f"{panel}, {name}", []).extend(curve)
    return {panel: _binned(curve, group.runs[0].steps) for panel, curve in points.items()}


def _binned(curve: Curve, steps: int) -> Curve:
    stretches: dict[int, list[tuple[int, float]]] = {}
    for step, value in sorted(curve):
        stretches.setdefault((step - 1) * _STRETCHES // max(steps, 1), []).append((step, value))
    means = (np.mean(part, axis=0) for part in stretches.values())
    return [(round(float(step)), float(value)) for step, value in means]


def _panels(
    titles: Sequence[str], *, width: float, height: float, columns: int | None = None
) -> tuple[Figure, list[Axes]]:
    columns = columns or (len(titles) if len(titles) < 4 else 2 if len(titles) == 4 else 3)
    rows = -(-len(titles) // columns)
    figure = new_figure(width * columns, height * rows + 0.9)
    panels = [figure.add_subplot(rows, columns, number + 1) for number in range(len(titles))]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _finish(figure: Figure, panels: Sequence[Axes], title: str, order: Sequence[str] = ()) -> None:
    """One legend below for all panels, in the order of the labels given, and the title."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = [label for label in order or handles if label in handles]
    figure.legend(
        [handles[label] for label in labels],
        labels,
        loc="outside lower center",
        ncols=max(2, int(figure.get_figwidth() // 1.6)),
        fontsize=9,
        frameon=False,
    )
    figure.suptitle(title, parse_math=False, fontsize=11)
