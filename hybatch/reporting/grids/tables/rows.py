"""What a grid's tables are made of: columns of figures, rows of groups, rows of published figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hybatch.reporting.grids.claims import LEVEL, MEASURES, ClaimOutcome, Verdict
from hybatch.reporting.grids.groups import Estimate, Grid, Group, RunFigure, language_figure, summary_figure
from hybatch.reporting.tables.measures import Measure
from hybatch.reporting.tables.published import (
    SOURCE,
    SOURCE_WITH_BASELINES,
    is_baseline,
    published_figures,
    published_label,
    published_languages,
    published_name,
    published_value,
)
from hybatch.reporting.tables.table import Column, Row

MEAN = "mean"
PRECISION = tuple(one for one in MEASURES if one.metric == "map")
RANK_DISTANCE = next(one for one in MEASURES if one.metric == "rank_distance")
SPREAD_NOTE = "Means ± standard deviations over seeds (no ±: one seed)."
_TASK_NAMES = {"xquad-r": "XQuAD-R", "mlqa-r": "MLQA-R", "tatoeba": "Tatoeba"}
_SIGNS: Mapping[Verdict, str] = {"better": "†", "worse": "‡"}


@dataclass(frozen=True)
class Figures:
    """A column: a measure of a task, of one query language or the mean over all."""

    heading: str
    task: str
    measure: Measure
    language: str = MEAN

    @property
    def column(self) -> Column:
        """As a table shows it."""
        return Column(self.heading, self.measure.digits, self.measure.higher_is_better)

    @property
    def of_run(self) -> RunFigure:
        """Where a run has it."""
        if self.language == MEAN:
            return summary_figure(self.task, self.measure.setting, self.measure.metric)
        return language_figure(self.task, self.measure.setting, self.language, self.measure.metric)


def task_name(task: str) -> str:
    """As papers write it."""
    return _TASK_NAMES.get(task, task)


def mean_columns(grid: Grid, measures: Sequence[Measure]) -> list[Figures]:
    """The means of the measures, task by task."""
    return [
        Figures(f"{task_name(task)} {measure.heading}", task, measure)
        for task in grid.languages
        for measure in measures
    ]


def group_name(group: Group) -> str:
    """Start and sampling."""
    return f"{group.start_label} {group.label}"


def estimates_row(label: str, estimates: Sequence[Estimate | None], *, block: str, signs: Sequence[str] = ()) -> Row:
    """A measured row of means over seeds."""
    return Row(
        label,
        tuple(one.mean if one else None for one in estimates),
        block=block,
        deviations=tuple(one.sd if one else None for one in estimates),
        counts=tuple(one.n if one else None for one in estimates),
        signs=tuple(signs),
    )


def measured_rows(
    groups: Sequence[Group],
    columns: Sequence[Figures],
    claims: Sequence[ClaimOutcome] = (),
    *,
    label: Callable[[Group], str] = group_name,
    block: Callable[[Group], str] = lambda group: group.start,
) -> list[Row]:
    """One row a group, except of groups that have none of the figures; verdicts of the claims are marks on means."""
    verdicts = {(one.group, one.task, one.measure): one.verdict for one in claims}
    rows = []
    for group in groups:
        estimates = [group.estimate(column.of_run) for column in columns]
        signs = [
            _SIGNS.get(verdicts.get((group, one.task, one.measure), "not tested"), "") if one.language == MEAN else ""
            for one in columns
        ]
        if any(estimates):
            rows.append(estimates_row(label(group), estimates, block=block(group), signs=signs))
    return rows


def beside_published(rows: Sequence[Row], columns: Sequence[Figures], grid: Grid) -> tuple[Row, ...]:
    """The published rows of each model after those of the start that stands for it, the other published ones last."""
    blocks: dict[str, list[Row]] = {}
    for model, row in _published_rows(columns, grid):
        blocks.setdefault(model, []).append(row)
    merged: list[Row] = []
    for start in dict.fromkeys(row.block for row in rows):
        merged += [row for row in rows if row.block == start]
        merged += blocks.pop(published_name(grid.description.start(start).published or ""), [])
    return (*merged, *(row for block in blocks.values() for row in block))


def published_note(rows: Sequence[Row], columns: Sequence[Figures], grid: Grid) -> str:
    """Where the published rows are from, and which are left out."""
    other = [task_name(task) for task in dict.fromkeys(one.task for one in columns) if not _is_published(task, grid)]
    published = [row.label for row in rows if not row.measured]
    source = SOURCE_WITH_BASELINES if any(map(is_baseline, published)) else SOURCE
    note = f"Published: {source}." if published else ""
    if other and any(published_languages(one.task) for one in columns):
        note += f" Not published in these languages: {', '.join(other)}."
    return note.strip()


def signs_note(claims: Sequence[ClaimOutcome]) -> str:
    """What the marks of `measured_rows` say; nothing if no claim was tested."""
    tested = sum(one.test is not None for one in claims)
    if not tested:
        return ""
    first, *others = dict.fromkeys(one.claim for one in claims)
    words = f"{first.label} is better (worse) than {first.against()}"
    words += "".join(f", {one.label} than {one.against()}" for one in others)
    return (
        f"† (‡): {words}; paired sign-flip test over questions, "
        f"p < {LEVEL} after Holm's correction for {tested} comparisons; of means only."
    )


def _published_rows(columns: Sequence[Figures], grid: Grid) -> Iterator[tuple[str, Row]]:
    tasks = [task for task in dict.fromkeys(one.task for one in columns) if _is_published(task, grid)]
    found = dict.fromkeys((one.model, one.sampling) for one in published_figures() if one.dataset in tasks)
    for model, sampling in found:
        values = tuple(
            published_value(model, sampling, one.task, one.measure.setting, one.measure.metric, one.language)
            if one.task in tasks
            else None
            for one in columns
        )
        if any(value is not None for value in values):
            name = published_name(model)
            label = published_label(model, sampling)
            yield name, Row(label, values, measured=False, block=f"{name} (published)")


def _is_published(task: str, grid: Grid) -> bool:
    """Whether there are published figures over the same languages; over others the pools differ."""
    return published_languages(task) == list(grid.languages[task])
