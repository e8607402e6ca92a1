"""The tables of a grid: its claims, the summary and the tables by language with the published figures beside, and more.

Rows are ranked within a start, never across starts or against published figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from hybatch.reporting.grids.claims import ClaimOutcome, claim_outcomes
from hybatch.reporting.grids.groups import Grid, Group
from hybatch.reporting.grids.tables.claims import claim_tables
from hybatch.reporting.grids.tables.extra import (
    accuracy_tables,
    alpha_table,
    cost_table,
    scratch_table,
    unseen_tables,
)
from hybatch.reporting.grids.tables.rows import (
    MEAN,
    PRECISION,
    RANK_DISTANCE,
    SPREAD_NOTE,
    Figures,
    beside_published,
    mean_columns,
    measured_rows,
    published_note,
    signs_note,
    task_name,
)
from hybatch.reporting.tables.measures import Measure
from hybatch.reporting.tables.table import ReportTable, file_name


def grid_tables(grid: Grid) -> list[ReportTable]:
    """All of them that the runs can fill, the claims first."""
    claims = claim_outcomes(grid)
    seen = [one for one in grid.groups if not one.unseen_languages]
    tables = [
        *claim_tables(grid, claims),
        *_main_tables(grid, [one for one in seen if not one.is_fresh], claims),
        *(_language_table(grid, seen, claims, task, RANK_DISTANCE) for task in grid.languages),
        *accuracy_tables(grid),
        *unseen_tables(grid),
        alpha_table(grid),
        scratch_table(grid, claims),
        cost_table(grid),
    ]
    return [table for table in tables if table.rows]


def _main_tables(grid: Grid, groups: Sequence[Group], claims: Sequence[ClaimOutcome]) -> list[ReportTable]:
    """Two summaries, and three tables a task; with the numbers that the grid's description gives them."""
    title = "mAP in the monolingual (Mo.), cross-lingual (Cr.) and multilingual (Mul.) setting"
    first = _table(
        grid, "summary", title, groups, claims, mean_columns(grid, PRECISION), _numbers(grid, "summary", 1)[0]
    )
    title = "rank distance, worst minus best rank of a question's answers in the pool of all languages"
    columns, number = mean_columns(grid, [RANK_DISTANCE]), _numbers(grid, RANK_DISTANCE.slug, 1)[0]
    second = _table(grid, f"{RANK_DISTANCE.slug}-summary", title, groups, claims, columns, number)
    by_language = [
        _language_table(grid, groups, claims, task, measure, number)
        for task in grid.languages
        for measure, number in zip(PRECISION, _numbers(grid, task, len(PRECISION)), strict=True)
    ]
    return [first, second, *by_language]


def _numbers(grid: Grid, what: str, wanted: int) -> Sequence[int | None]:
    given = grid.description.numbers.get(what, ())
    return [*given, *[None] * wanted][:wanted]


def _language_table(
    grid: Grid,
    groups: Sequence[Group],
    claims: Sequence[ClaimOutcome],
    task: str,
    measure: Measure,
    number: int | None = None,
) -> ReportTable:
    columns = [Figures(language, task, measure, language) for language in (*grid.languages[task], MEAN)]
    title = f"{task_name(task)}, {measure.title}"
    return _table(grid, f"{file_name(task)}-{measure.slug}", title, groups, claims, columns, number)


def _table(
    grid: Grid,
    what: str,
    title: str,
    groups: Sequence[Group],
    claims: Sequence[ClaimOutcome],
    columns: Sequence[Figures],
    number: int | None,
) -> ReportTable:
    """Measured rows with the published beside them; without rows where no group has the figures."""
    measured = measured_rows(groups, columns, claims)
    rows = beside_published(measured, columns, grid) if measured else ()
    notes = (SPREAD_NOTE, signs_note(claims), published_note(rows, columns, grid))
    return ReportTable(
        slug="-".join([grid.name, *([str(number)] if number is not None else []), what]),
        title=f"Table {number}: {title}" if number is not None else title,
        columns=tuple(one.column for one in columns),
        rows=rows,
        note=" ".join(note for note in notes if note),
    )
