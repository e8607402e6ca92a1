"""Tables beyond the paper's: translation accuracy, unseen languages, the share alpha, from scratch, and cost."""

from __future__ import annotations

from collections.abc import Sequence

from hybatch.evaluation.tasks.tatoeba import XQUAD_R_LANGUAGES
from hybatch.reporting.grids.claims import MEASURES, ClaimOutcome
from hybatch.reporting.grids.groups import Grid, Group, task_figure
from hybatch.reporting.grids.tables.rows import (
    MEAN,
    PRECISION,
    RANK_DISTANCE,
    SPREAD_NOTE,
    Figures,
    estimates_row,
    group_name,
    mean_columns,
    measured_rows,
    signs_note,
    task_name,
)
from hybatch.reporting.results import LanguageResults
from hybatch.reporting.samplings import HYBRID, SCHEDULED
from hybatch.reporting.tables.table import Column, ReportTable, Row, file_name
from hybatch.sampling.kinds import CROSS_LINGUAL, KINDS, MONOLINGUAL

_WAYS = {
    "accuracy_to_pivot": "accuracy into English",
    "accuracy_from_pivot": "accuracy from English",
    "margin_accuracy_to_pivot": "accuracy into English by ratio margin",
    "margin_accuracy_from_pivot": "accuracy from English by ratio margin",
}
_MANY = 14


def accuracy_tables(grid: Grid) -> list[ReportTable]:
    """For tasks with one row of figures a language: every metric's mean over all of them, and its figures by language.

    Of very many languages, those of XQuAD-R are shown.
    """
    tables = []
    groups = [one for one in grid.groups if not one.unseen_languages]
    for task, languages in grid.figure_tasks.items():
        found = (run.results.get(task) for run in grid.runs)
        results = next(one for one in found if isinstance(one, LanguageResults))
        metrics = [metric for metric in results.metrics if metric in _WAYS] or results.metrics[:1]
        shown = [x for x in languages if len(languages) <= _MANY or x in XQUAD_R_LANGUAGES] or languages
        for metric in metrics:
            cells = [(f"{MEAN} of {len(languages)}", None), *((language, language) for language in shown)]
            tables.append(_accuracy_table(f"{grid.name}-{file_name(task)}", groups, task, metric, cells))
    return tables


def _accuracy_table(
    slug: str, groups: Sequence[Group], task: str, metric: str, cells: Sequence[tuple[str, str | None]]
) -> ReportTable:
    rows = []
    for group in groups:
        estimates = [group.estimate(task_figure(task, metric, language)) for _, language in cells]
        if any(estimates):
            rows.append(estimates_row(group_name(group), estimates, block=group.start))
    return ReportTable(
        slug=f"{slug}-{file_name(metric)}",
        title=f"{task_name(task)}, {_WAYS.get(metric, metric.replace('_', ' '))}",
        columns=tuple(Column(heading, 3) for heading, _ in cells),
        rows=tuple(rows),
        note=SPREAD_NOTE,
    )


def unseen_tables(grid: Grid) -> list[ReportTable]:
    """A table for each set of languages that runs left out: their figures, and those of runs that saw them."""
    sets = dict.fromkeys(group.unseen_languages for group in grid.groups if group.unseen_languages)
    return [_unseen_table(grid, unseen) for unseen in sets]


def _unseen_table(grid: Grid, unseen: tuple[str, ...]) -> ReportTable:
    columns = [
        Figures(f"{task_name(task)} {language} {measure.heading}", task, measure, language)
        for task, languages in grid.languages.items()
        for language in unseen
        if language in languages
        for measure in MEASURES
    ]
    left_out = [one for one in grid.groups if one.unseen_languages == unseen]
    saw = [grid.group(one.start, one.key) for one in left_out]
    names = " ".join(unseen)
    rows = [
        *measured_rows(
            left_out,
            columns,
            label=lambda group: f"{group_name(group)}, unseen",
            block=lambda group: f"{group.start} unseen",
        ),
        *measured_rows([one for one in saw if one], columns, label=lambda group: f"{group_name(group)}, seen"),
    ]
    return ReportTable(
        slug=f"{grid.name}-unseen-{file_name(names)}",
        title=f"Languages that fine-tuning did not see: {names}",
        columns=tuple(one.column for one in columns),
        rows=tuple(rows),
        note=f"Queries in these languages; unseen: fine-tuned without {names}, seen: with all languages. {SPREAD_NOTE}",
    )


def alpha_table(grid: Grid) -> ReportTable:
    """Means against the share of X-X-mono batches, of the starts that have hybrids of other shares than the default."""
    rows: list[Row] = []
    columns = mean_columns(grid, MEASURES)
    for start in grid.starts:
        groups = [one for one in grid.groups if one.start == start and not one.unseen_languages and _share(one)]
        if any(one.key.startswith(HYBRID) and one.key != HYBRID for one in groups):
            rows += measured_rows(sorted(groups, key=_share), columns, label=_share_name)
    return ReportTable(
        slug=f"{grid.name}-alpha",
        title=f"The share alpha of {KINDS[MONOLINGUAL].label} batches, the others being {KINDS[CROSS_LINGUAL].label}",
        columns=tuple(one.column for one in columns),
        rows=tuple(rows),
        note=f"{_schedules(grid)}{SPREAD_NOTE}",
    )


def _schedules(grid: Grid) -> str:
    """How alpha changes where it is scheduled, if all that schedule it do so alike."""
    schedules = [run.config.get("sampling", {}).get("alpha") for run in grid.runs if run.sampling == SCHEDULED]
    ends = {(one.get("start"), one.get("end")) for one in schedules if isinstance(one, dict)}
    if len(ends) != 1:
        return ""
    (start, end), *_ = ends
    return f"Scheduled: alpha from {start:g} to {end:g} over the run. "


def scratch_table(grid: Grid, claims: Sequence[ClaimOutcome]) -> ReportTable:
    """The two summaries of the runs that start from random weights."""
    groups = [one for one in grid.groups if one.is_fresh and not one.unseen_languages]
    columns = [*mean_columns(grid, PRECISION), *mean_columns(grid, [RANK_DISTANCE])]
    return ReportTable(
        slug=f"{grid.name}-scratch",
        title="From scratch: mAP in every kind of setting and rank distance",
        columns=tuple(one.column for one in columns),
        rows=tuple(measured_rows(groups, columns, claims)),
        note=f"{SPREAD_NOTE} {signs_note(claims)}".strip(),
    )


def cost_table(grid: Grid) -> ReportTable:
    """What every group trained: seeds, steps, the step chosen on the validation set, and its loss there."""
    rows = []
    for group in grid.groups:
        unseen = f" without {' '.join(group.unseen_languages)}" if group.unseen_languages else ""
        estimates = [
            group.estimate(lambda run: float(run.steps)),
            group.estimate(lambda run: float(run.chosen_step)),
            group.estimate(lambda run: run.selection_loss),
        ]
        row = estimates_row(group_name(group) + unseen, estimates, block=group.start + unseen)
        rows.append(row)
    return ReportTable(
        slug=f"{grid.name}-cost",
        title="Steps of training, and the step chosen by the loss on the validation set",
        columns=(
            Column("steps", 0, None),
            Column("chosen step", 0, None),
            Column("selection loss", 3, higher_is_better=False),
        ),
        rows=tuple(rows),
        note=f"Selection loss: mean of the losses on one fixed set of {KINDS[MONOLINGUAL].label} and one of "
        f"{KINDS[CROSS_LINGUAL].label} batches. {SPREAD_NOTE}",
    )


def _share(group: Group) -> tuple[float, ...]:
    """Where a group stands in the order of alpha; empty if it has no place there."""
    if group.sampling == SCHEDULED:
        return (2.0,)
    return () if group.mono_share is None else (group.mono_share,)


def _share_name(group: Group) -> str:
    if group.sampling == SCHEDULED:
        return f"{group.start_label} scheduled"
    name = f"{group.start_label} alpha {_share(group)[0]:g}"
    return name if group.sampling == HYBRID else f"{name} ({group.label})"
