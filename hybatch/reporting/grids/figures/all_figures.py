"""The figures of a grid: which are drawn, their files and captions."""

from __future__ import annotations

from collections.abc import Iterator

from hybatch.reporting.figures.files import FigureFile, FigureFolder
from hybatch.reporting.grids.description import Claim
from hybatch.reporting.grids.families import families, styles
from hybatch.reporting.grids.figures.by_pair import draw_gains, draw_pairs
from hybatch.reporting.grids.figures.by_sampling import draw_alpha, draw_curves, draw_rank_distance, draw_trade_off
from hybatch.reporting.grids.groups import Grid
from hybatch.reporting.grids.tables.rows import task_name
from hybatch.reporting.tables.table import file_name

_BY_SAMPLING = (
    (draw_trade_off, "trade-off", "monolingual against multilingual mAP, up and right is better"),
    (draw_alpha, "alpha", "mAP against alpha; bars are standard deviations over seeds"),
    (draw_rank_distance, "rank-distance", "rank distance by query language; bars are standard deviations over seeds"),
)


def write_grid_figures(grid: Grid, folder: FigureFolder) -> dict[str, list[FigureFile]]:
    """Draw whatever the grid's runs can fill, as `<grid>-<what>.png` and `.svg`; what they are about -> figures.

    Raises:
        OSError: a file cannot be written.
    """
    return {
        "Samplings compared": list(_by_sampling(grid, folder)),
        **{
            f"{claim.label[:1].upper()}{claim.label[1:]} against the {claim.best} rival": list(
                _gains(grid, claim, folder)
            )
            for claim in grid.claims
        },
        f"Learning curves of the {grid.name}": list(_curves(grid, folder)),
        f"Language pairs of the {grid.name}": list(_pairs(grid, folder)),
    }


def _by_sampling(grid: Grid, folder: FigureFolder) -> Iterator[FigureFile]:
    for draw, name, caption in _BY_SAMPLING:
        for task in grid.languages:
            if (figure := draw(grid, task)) is not None:
                name_of_file = f"{grid.name}-{name}-{file_name(task)}"
                yield folder.write(figure, name_of_file, f"{task_name(task)}: {caption}")


def _gains(grid: Grid, claim: Claim, folder: FigureFolder) -> Iterator[FigureFile]:
    of_which = "" if len(grid.claims) == 1 else f"{claim.name}-"
    for task in grid.languages:
        for family, figure in draw_gains(grid, claim, task):
            caption = f"{task_name(task)}: {family.title}, {claim.label} minus the {claim.best} rival in each cell, mAP"
            name = f"{grid.name}-gain-{of_which}{file_name(f'{task} {family.title}')}"
            yield folder.write(figure, name, caption)


def _curves(grid: Grid, folder: FigureFolder) -> Iterator[FigureFile]:
    looks = styles(grid)
    for family in families(grid):
        if (figure := draw_curves(family, looks)) is not None:
            caption = f"{family.title}: learning curves of every kind of batch"
            yield folder.write(figure, f"{grid.name}-curves-{file_name(family.title)}", caption)


def _pairs(grid: Grid, folder: FigureFolder) -> Iterator[FigureFile]:
    for task in grid.languages:
        for family, group, figure in draw_pairs(grid, task):
            caption = f"{task_name(task)}: {family.title}, {group.label}, mAP of every language pair and of the pool"
            name = f"{grid.name}-pairs-{file_name(f'{task} {family.title} {group.label}')}"
            yield folder.write(figure, name, caption)
