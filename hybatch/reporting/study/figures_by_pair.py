"""Heatmaps of the study: mAP of every language pair, mean over seeds, and hybrid against the better rival.

G languages; a matrix is [G, G + 1], its last column the pool of all languages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from hybatch.reporting.figures import draw_difference_matrix, draw_matrix, map_matrix
from hybatch.reporting.study.aggregate import PAPER_ALPHA, Group, Study, summary_figure
from hybatch.reporting.study.claims import RIVALS
from hybatch.reporting.study.families import Family, families
from hybatch.reporting.study.records import SETTINGS
from hybatch.reporting.study.rows import task_name


def draw_pairs(study: Study, task: str) -> Iterator[tuple[Family, Group, Figure]]:
    """A heatmap of each group, all with one scale of colours."""
    members = [(family, group) for family in families(study) for group in family.with_task(task)]
    drawn = [(family, group, mean_matrix(group, task)) for family, group in members]
    top = max((float(np.nanmax(matrix, initial=0.0)) for *_, matrix in drawn), default=0.0)
    limit = max(math.ceil(20 * top), 1) / 20
    for family, group, matrix in drawn:
        title = f"{task_name(task)}: {family.title}, {group.label}"
        subtitle = _subtitle(group, task)
        yield family, group, draw_matrix(matrix, study.languages[task], title=title, subtitle=subtitle, limit=limit)


def draw_gains(study: Study, task: str) -> Iterator[tuple[Family, Figure]]:
    """Of each family with hybrid and a rival: hybrid minus the better rival of the cell, all with one scale."""
    gains = [(family, gain) for family in families(study) if (gain := gain_matrix(family, task)) is not None]
    limit = max((float(np.nanmax(np.abs(gain), initial=0.0)) for _, gain in gains), default=0.0)
    for family, gain in gains:
        ahead, cells = int((gain >= 0).sum()), int(np.isfinite(gain).sum())
        title = (
            f"{task_name(task)}: {family.title}, hybrid minus the better of X-X-mono and X-Y\n"
            f"at or above it in {ahead} of {cells} cells"
        )
        yield family, draw_difference_matrix(gain, study.languages[task], title=title, limit=limit)


def mean_matrix(group: Group, task: str) -> np.ndarray:
    """[G, G + 1] mAP, the mean over the group's runs; NaN where no query has a positive."""
    matrices = [map_matrix(run.results[task]) for run in group.runs if task in run.results]
    return np.mean(matrices, axis=0)


def gain_matrix(family: Family, task: str) -> np.ndarray | None:
    """[G, G + 1] hybrid's mAP minus that of the better of X-X-mono and X-Y, cell by cell; None without the three.

    The better rival is another one from cell to cell, a harder rival than either sampling alone.
    """
    groups = family.with_task(task)
    hybrid = _one_of(groups, "hybrid", PAPER_ALPHA)
    rivals = [_one_of(groups, sampling, None) for sampling in RIVALS]
    if hybrid is None or None in rivals:
        return None
    return mean_matrix(hybrid, task) - np.maximum(*(mean_matrix(one, task) for one in rivals if one))


def _one_of(groups: Sequence[Group], sampling: str, alpha: float | None) -> Group | None:
    return next((group for group in groups if (group.sampling, group.alpha) == (sampling, alpha)), None)


def _subtitle(group: Group, task: str) -> str:
    parts, seeds = [], 0
    for setting in SETTINGS:
        estimate = group.estimate(summary_figure(task, setting))
        if estimate is not None:
            parts.append(f"{setting.replace('_', '-')} {estimate.mean:.3f}")
            seeds = estimate.n
    return f"mAP: {', '.join(parts)} ({seeds} seed{'s' if seeds > 1 else ''})"
