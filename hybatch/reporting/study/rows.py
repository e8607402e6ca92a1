"""What the study's tables are made of: columns of figures, rows of groups, rows of published figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hybatch.reporting.published import SOURCE, published_figures, published_languages, published_value
from hybatch.reporting.study.aggregate import Estimate, Group, RunFigure, Study, language_figure, summary_figure
from hybatch.reporting.study.claims import LEVEL, MEASURES, Claim, Verdict
from hybatch.reporting.tables import HEADINGS, MODEL_NAMES, SAMPLING_NAMES, Column, Row, Setting

MEAN = "mean"
PRECISION = tuple(one for one in MEASURES if one.metric == "map")
RANK_DISTANCE = next(one for one in MEASURES if one.metric == "rank_distance")
SPREAD_NOTE = "Means ± standard deviations over seeds (no ±: one seed)."
_TASK_NAMES = {"xquad-r": "XQuAD-R", "mlqa-r": "MLQA-R", "tatoeba": "Tatoeba"}
_SIGNS: Mapping[Verdict, str] = {"better": "†", "worse": "‡"}
_MBERT = "mbert-"
_MBERT_SOURCE = "arXiv 2004.05484"


@dataclass(frozen=True)
class Figures:
    """A column: a measure of a task, of one query language or the mean over all."""

    heading: str
    task: str
    measure: Setting
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


def mean_columns(study: Study, measures: Sequence[Setting]) -> list[Figures]:
    """The means of the measures, task by task."""
    return [
        Figures(f"{task_name(task)} {HEADINGS[measure.slug]}", task, measure)
        for task in study.languages
        for measure in measures
    ]


def group_name(group: Group) -> str:
    """Start and sampling."""
    return f"{group.start} {group.label}"


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
    claims: Sequence[Claim] = (),
    *,
    label: Callable[[Group], str] = group_name,
    block: Callable[[Group], str] = lambda group: group.start,
) -> list[Row]:
    """One row a group, except of groups that have none of the figures; verdicts of the claims are marks on means."""
    verdicts = {(one.hybrid, one.task, one.measure): one.verdict for one in claims}
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


def beside_published(rows: Sequence[Row], columns: Sequence[Figures], study: Study) -> tuple[Row, ...]:
    """The published rows of each model after those of the start that stands for it, the other published ones last."""
    blocks: dict[str, list[Row]] = {}
    for model, row in _published_rows(columns, study):
        blocks.setdefault(model, []).append(row)
    merged: list[Row] = []
    for start in dict.fromkeys(row.block for row in rows):
        merged += [row for row in rows if row.block == start]
        merged += blocks.pop(_published_model(start), [])
    return (*merged, *(row for block in blocks.values() for row in block))


def published_note(rows: Sequence[Row], columns: Sequence[Figures], study: Study) -> str:
    """Where the published rows are from, and which are left out."""
    other = [task_name(task) for task in dict.fromkeys(one.task for one in columns) if not _is_published(task, study)]
    published = [row for row in rows if not row.measured]
    note = f"Published: {SOURCE}." if published else ""
    if any(row.label.startswith("mBERT") for row in published):
        note = f"Published: {SOURCE}; mBERT: {_MBERT_SOURCE}."
    if other and any(published_languages(one.task) for one in columns):
        note += f" Not published in these languages: {', '.join(other)}."
    return note.strip()


def signs_note(claims: Sequence[Claim]) -> str:
    """What the marks of `measured_rows` say; nothing if no claim was tested."""
    tested = sum(one.test is not None for one in claims)
    if not tested:
        return ""
    return (
        "† (‡): hybrid is better (worse) than the better of X-X-mono and X-Y; paired sign-flip test over questions, "
        f"p < {LEVEL} after Holm's correction for {tested} comparisons; of means only."
    )


def _published_rows(columns: Sequence[Figures], study: Study) -> Iterator[tuple[str, Row]]:
    tasks = [task for task in dict.fromkeys(one.task for one in columns) if _is_published(task, study)]
    found = dict.fromkeys((one.model, one.sampling) for one in published_figures() if one.dataset in tasks)
    for model, sampling in found:
        values = tuple(
            published_value(model, sampling, one.task, one.measure.setting, one.measure.metric, one.language)
            if one.task in tasks
            else None
            for one in columns
        )
        # LAReQA's models are called by their sampling: mbert-x-y.
        name = "mBERT" if model.startswith(_MBERT) else MODEL_NAMES.get(model, model)
        if any(value is not None for value in values):
            label = f"{name} {SAMPLING_NAMES.get(sampling, sampling)} (published)"
            yield name, Row(label, values, measured=False, block=f"{name} (published)")


def _is_published(task: str, study: Study) -> bool:
    """Whether there are published figures over the same languages; over others the pools differ."""
    return published_languages(task) == list(study.languages[task])


def _published_model(start: str) -> str:
    """The model of the paper that a start stands for: weakly aligned across languages, or aligned."""
    if "xlm" in start:
        return MODEL_NAMES["xlm-r"]
    return MODEL_NAMES["labse"] if "labse" in start else ""
