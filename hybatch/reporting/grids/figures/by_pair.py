"""Heatmaps of a grid: mAP of every language pair, mean over seeds, and a sampling against the better rival.

G languages; a matrix is [G, G + 1], its last column the pool of all languages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from hybatch.reporting.figures.heatmaps import draw_difference_matrix, draw_matrix, map_matrix
from hybatch.reporting.grids.description import Claim
from hybatch.reporting.grids.families import Family, families
from hybatch.reporting.grids.groups import Grid, Group, summary_figure
from hybatch.reporting.grids.tables.rows import task_name
from hybatch.reporting.results import SETTINGS, PairResults


def draw_pairs(grid: Grid, task: str) -> Iterator[tuple[Family, Group, Figure]]:
    """A heatmap of each group, all with one scale of colours."""
    members = [(family, group) for family in families(grid) for group in family.with_task(task)]
    drawn = [(family, group, mean_matrix(group, task)) for family, group in members]
    top = max((float(np.nanmax(matrix, initial=0.0)) for *_, matrix in drawn), default=0.0)
    limit = max(math.ceil(20 * top), 1) / 20
    for family, group, matrix in drawn:
        title = f"{task_name(task)}: {family.title}, {group.label}"
        subtitle = _subtitle(group, task)
        yield family, group, draw_matrix(matrix, grid.languages[task], title=title, subtitle=subtitle, limit=limit)


def draw_gains(grid: Grid, claim: Claim, task: str) -> Iterator[tuple[Family, Figure]]:
    """Of each family with all that the claim names: the sampling minus the better rival of the cell, with one scale."""
    gains = [(family, gain) for family in families(grid) if (gain := gain_matrix(family, claim, task)) is not None]
    limit = max((float(np.nanmax(np.abs(gain), initial=0.0)) for _, gain in gains), default=0.0)
    for family, gain in gains:
        ahead, cells = int((gain >= 0).sum()), int(np.isfinite(gain).sum())
        title = (
            f"{task_name(task)}: {family.title}, {claim.label} minus {claim.against()}\n"
            f"at or above it in {ahead} of {cells} cells"
        )
        yield family, draw_difference_matrix(gain, grid.languages[task], title=title, limit=limit)


def mean_matrix(group: Group, task: str) -> np.ndarray:
    """[G, G + 1] mAP, the mean over the group's runs; NaN where no query has a positive."""
    found = [run.results.get(task) for run in group.runs]
    matrix: np.ndarray = np.mean([map_matrix(one) for one in found if isinstance(one, PairResults)], axis=0)
    return matrix


def gain_matrix(family: Family, claim: Claim, task: str) -> np.ndarray | None:
    """[G, G + 1] the sampling's mAP minus that of its better rival, cell by cell; None where one of them is missing.

    The better rival is another one from cell to cell, a harder rival than any sampling alone.
    """
    groups = {group.key: group for group in family.with_task(task)}
    if not {claim.sampling, *claim.rivals} <= groups.keys():
        return None
    rivals = [mean_matrix(groups[sampling], task) for sampling in claim.rivals]
    return mean_matrix(groups[claim.sampling], task) - np.max(rivals, axis=0)


def _subtitle(group: Group, task: str) -> str:
    parts, seeds = [], 0
    for setting in SETTINGS:
        estimate = group.estimate(summary_figure(task, setting))
        if estimate is not None:
            parts.append(f"{setting.replace('_', '-')} {estimate.mean:.3f}")
            seeds = estimate.n
    return f"mAP: {', '.join(parts)} ({seeds} seed{'s' if seeds > 1 else ''})"
