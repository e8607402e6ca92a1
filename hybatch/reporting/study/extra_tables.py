"""Tables beyond the paper's: translation accuracy, unseen languages, the share alpha, from scratch, and cost."""

from __future__ import annotations

from collections.abc import Sequence

from hybatch.evaluation.tasks.tatoeba import XQUAD_R_LANGUAGES
from hybatch.reporting.study.aggregate import Group, Study, task_figure
from hybatch.reporting.study.claims import MEASURES, Claim
from hybatch.reporting.study.records import SCRATCH
from hybatch.reporting.study.rows import (
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
from hybatch.reporting.tables import HEADINGS, Column, ReportTable, Row, file_name

_WAYS = {
    "accuracy_to_pivot": "accuracy into English",
    "accuracy_from_pivot": "accuracy from English",
    "margin_accuracy_to_pivot": "accuracy into English by ratio margin",
    "margin_accuracy_from_pivot": "accuracy from English by ratio margin",
}
_MANY = 14


def accuracy_tables(study: Study) -> list[ReportTable]:
    """For tasks with one row of figures a language: every metric's mean over all of them, and its figures by language.

    Of very many languages, those of XQuAD-R are shown.
    """
    tables = []
    groups = [one for one in study.groups if not one.unseen_languages]
    for task, languages in study.figure_tasks.items():
        results = next(run.results[task] for run in study.runs if task in run.results)
        metrics = [metric for metric in results["metrics"] if metric in _WAYS] or results["metrics"][:1]
        shown = [x for x in languages if len(languages) <= _MANY or x in XQUAD_R_LANGUAGES] or languages
        for metric in metrics:
            cells = [(f"{MEAN} of {len(languages)}", None), *((language, language) for language in shown)]
            tables.append(_accuracy_table(groups, task, metric, cells))
    return tables


def _accuracy_table(
    groups: Sequence[Group], task: str, metric: str, cells: Sequence[tuple[str, str | None]]
) -> ReportTable:
    rows = []
    for group in groups:
        estimates = [group.estimate(task_figure(task, metric, language)) for _, language in cells]
        if any(estimates):
            rows.append(estimates_row(group_name(group), estimates, block=group.start))
    return ReportTable(
        slug=f"study-{file_name(task)}-{file_name(metric)}",
        title=f"{task_name(task)}, {_WAYS.get(metric, metric.replace('_', ' '))}",
        columns=tuple(Column(heading, 3) for heading, _ in cells),
        rows=tuple(rows),
        note=SPREAD_NOTE,
    )


def unseen_tables(study: Study) -> list[ReportTable]:
    """A table for each set of languages that runs left out: their figures, and those of runs that saw them."""
    sets = dict.fromkeys(group.unseen_languages for group in study.groups if group.unseen_languages)
    return [_unseen_table(study, unseen) for unseen in sets]


def _unseen_table(study: Study, unseen: tuple[str, ...]) -> ReportTable:
    columns = [
        Figures(f"{task_name(task)} {language} {HEADINGS[measure.slug]}", task, measure, language)
        for task, languages in study.languages.items()
        for language in unseen
        if language in languages
        for measure in MEASURES
    ]
    left_out = [one for one in study.groups if one.unseen_languages == unseen]
    saw = [study.group(one.start, one.sampling, one.alpha) for one in left_out]
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
        slug=f"study-unseen-{file_name(names)}",
        title=f"Languages that fine-tuning did not see: {names}",
        columns=tuple(one.column for one in columns),
        rows=tuple(rows),
        note=f"Queries in these languages; unseen: fine-tuned without {names}, seen: with all languages. {SPREAD_NOTE}",
    )


def alpha_table(study: Study) -> ReportTable:
    """Means against the share of X-X-mono batches, of the starts that have more hybrids than the paper's."""
    rows: list[Row] = []
    columns = mean_columns(study, MEASURES)
    for start in study.starts:
        groups = [one for one in study.groups if one.start == start and not one.unseen_languages and _share(one)]
        if any(one.sampling.startswith("hybrid") and not one.is_paper for one in groups):
            rows += measured_rows(sorted(groups, key=_share), columns, label=_share_name)
    return ReportTable(
        slug="study-alpha",
        title="The share alpha of X-X-mono batches, the others being X-Y",
        columns=tuple(one.column for one in columns),
        rows=tuple(rows),
        note=f"Scheduled: alpha from 1 to 0 over the run. {SPREAD_NOTE}",
    )


def scratch_table(study: Study, claims: Sequence[Claim]) -> ReportTable:
    """Tables 1 and 2 of the runs that start from nothing."""
    groups = [one for one in study.groups if one.start == SCRATCH and not one.unseen_languages]
    columns = [*mean_columns(study, PRECISION), *mean_columns(study, [RANK_DISTANCE])]
    return ReportTable(
        slug="study-scratch",
        title="From scratch: mAP in every kind of setting and rank distance",
        columns=tuple(one.column for one in columns),
        rows=tuple(measured_rows(groups, columns, claims)),
        note=f"{SPREAD_NOTE} {signs_note(claims)}".strip(),
    )


def cost_table(study: Study) -> ReportTable:
    """What every group trained: seeds, steps, the step chosen on the validation set, and its loss there."""
    rows = []
    for group in study.groups:
        unseen = f" without {' '.join(group.unseen_languages)}" if group.unseen_languages else ""
        estimates = [
            group.estimate(lambda run: float(run.steps)),
            group.estimate(lambda run: float(run.chosen_step)),
            group.estimate(lambda run: run.selection_loss),
        ]
        row = estimates_row(group_name(group) + unseen, estimates, block=group.start + unseen)
        rows.append(row)
    return ReportTable(
        slug="study-cost",
        title="Steps of training, and the step chosen by the loss on the validation set",
        columns=(
            Column("steps", 0, None),
            Column("chosen step", 0, None),
            Column("selection loss", 3, higher_is_better=False),
        ),
        rows=tuple(rows),
        note=f"Selection loss: mean of the losses on one fixed set of X-X-mono and one of X-Y batches. {SPREAD_NOTE}",
    )


def _share(group: Group) -> tuple[float, ...]:
    """Where a group stands in the order of alpha; empty if it has no place there."""
    if group.sampling == "hybrid-scheduled":
        return (2.0,)
    return () if group.mono_share is None else (group.mono_share,)


def _share_name(group: Group) -> str:
    if group.sampling == "hybrid-scheduled":
        return f"{group.start} scheduled"
    name = f"{group.start} alpha {_share(group)[0]:g}"
    return name if group.sampling == "hybrid" else f"{name} ({group.label})"
