"""Learning curves from the rows of a training run's metrics.jsonl.

A row of a training step has "step", "loss" and "kind" (of its batch). A row of a validation has "step" and figures
under names that begin with "validation", flat ("validation/loss/x-y") or nested ({"validation": {"loss": ...}}).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from hybatch.reporting.figures.files import LINE_COLOURS, LINE_STYLES, new_figure

Curve = list[tuple[int, float]]
_POINTS = 200


def learning_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Curve]]:
    """What to draw: panel -> name -> (step, value); only panels that have curves.

    The panels are the training loss of each batch kind (at most 200 points, each the mean of its stretch of steps),
    the validation loss, validation mAP, and validation rank distance.
    """
    panels = {
        "training loss": {kind: _thinned(curve) for kind, curve in sorted(_losses(rows).items())},
        "validation loss": {},
        "validation mAP": {},
        "validation rank distance": {},
    }
    for row in rows:
        for name, value in _validation_figures(row):
            for panel, word in (("loss", "loss"), ("mAP", "map"), ("rank distance", "rank_distance")):
                if word in name.split("/"):
                    label = "/".join(part for part in name.split("/") if part != word) or word
                    panels[f"validation {panel}"].setdefault(label, []).append((int(row["step"]), value))
    return {panel: curves for panel, curves in panels.items() if curves}


def _losses(rows: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for row in rows:
        if _is_number(row.get("loss")) and "step" in row:
            curves.setdefault(str(row.get("kind", "loss")), []).append((int(row["step"]), float(row["loss"])))
    return curves


def _validation_figures(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    if "step" not in row:
        return
    for name, value in _flattened(row):
        for separator in ("/", ".", "_"):
            prefix = f"validation{separator}"
            if name.startswith(prefix):
                yield name[len(prefix) :], value
                break


def _flattened(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}/")
        elif _is_number(value):
            yield f"{prefix}{name}", float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _thinned(curve: Curve) -> Curve:
    stretch = -(-len(curve) // _POINTS)
    parts = (curve[start : start + stretch] for start in range(0, len(curve), stretch))
    return [(part[len(part) // 2][0], sum(loss for _, loss in part) / len(part)) for part in parts]


def draw_learning_curves(panels: Mapping[str, Mapping[str, Curve]], *, title: str) -> Figure:
    """Curves over the steps, panels side by side.

    Args:
        panels: label of the axis -> name of the curve -> (step, value), not empty.
    """
    figure = new_figure(4.6 * len(panels), 3.8)
    for number, (label, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), number)
        for i, (name, points) in enumerate(curves.items()):
            steps, values = zip(*points, strict=True)
            style, colour = LINE_STYLES[i % len(LINE_STYLES)], LINE_COLOURS[i % len(LINE_COLOURS)]
            marker = "o" if len(points) < 30 else None
            axes.plot(steps, values, style, color=colour, label=name, marker=marker, markersize=3, linewidth=1.4)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, frameon=False)
    figure.suptitle(title, parse_math=False, fontsize=11)
    return figure
