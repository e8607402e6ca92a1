"""The tables of the study: the claim, the paper's Tables 1 to 8 with the published figures beside, and more.

Rows are ranked within a start, never across starts or against published figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from hybatch.reporting.study.aggregate import Group, Study
from hybatch.reporting.study.claim_tables import claim_tables
from hybatch.reporting.study.claims import Claim, study_claims
from hybatch.reporting.study.extra_tables import (
    accuracy_tables,
    alpha_table,
    cost_table,
    scratch_table,
    unseen_tables,
)
from hybatch.reporting.study.records import SCRATCH
from hybatch.reporting.study.rows import (
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
from hybatch.reporting.tables import ReportTable, Setting, file_name

# The paper's tables by language: monolingual, cross-lingual, multilingual.
_NUMBERS = {"xquad-r": (3, 4, 5), "mlqa-r": (6, 7, 8)}


def study_tables(study: Study) -> list[ReportTable]:
    """All of them that the runs can fill, the claim first."""
    claims = study_claims(study)
    seen = [one for one in study.groups if not one.unseen_languages]
    tables = [
        *claim_tables(claims),
        *_paper_tables(study, [one for one in seen if one.start != SCRATCH], claims),
        *(_language_table(study, seen, claims, task, RANK_DISTANCE) for task in study.languages),
        *accuracy_tables(study),
        *unseen_tables(study),
        alpha_table(study),
        scratch_table(study, claims),
        cost_table(study),
    ]
    return [table for table in tables if table.rows]


def _paper_tables(study: Study, groups: Sequence[Group], claims: Sequence[Claim]) -> list[ReportTable]:
    """Tables 1 to 8; a task beside XQuAD-R and MLQA-R gets tables without a number."""
    title = "mAP in the monolingual (Mo.), cross-lingual (Cr.) and multilingual (Mul.) setting"
    columns = mean_columns(study, PRECISION)
    first = _table("study-1-summary", f"Table 1: {title}", study, groups, claims, columns)
    title = "rank distance, worst minus best rank of a question's answers in the pool of all languages"
    columns = mean_columns(study, [RANK_DISTANCE])
    second = _table("study-2-rank-distance-summary", f"Table 2: {title}", study, groups, claims, columns)
    by_language = [
        _language_table(study, groups, claims, task, measure, number)
        for task in study.languages
        for measure, number in zip(PRECISION, _NUMBERS.get(task, (None,) * len(PRECISION)), strict=True)
    ]
    return [first, second, *by_language]


def _language_table(
    study: Study,
    groups: Sequence[Group],
    claims: Sequence[Claim],
    task: str,
    measure: Setting,
    number: int | None = None,
) -> ReportTable:
    columns = [Figures(language, task, measure, language) for language in (*study.languages[task], MEAN)]
    title = f"{task_name(task)}, {measure.title}"
    return _table(
        "-".join(["study", *([str(number)] if number else []), file_name(task), measure.slug]),
        f"Table {number}: {title}" if number else title,
        study,
        groups,
        claims,
        columns,
    )


def _table(
    slug: str,
    title: str,
    study: Study,
    groups: Sequence[Group],
    claims: Sequence[Claim],
    columns: Sequence[Figures],
) -> ReportTable:
    """Measured rows with the published beside them; without rows where no group has the figures."""
    measured = measured_rows(groups, columns, claims)
    rows = beside_published(measured, columns, study) if measured else ()
    notes = (SPREAD_NOTE, signs_note(claims), published_note(rows, columns, study))
    return ReportTable(
        slug=slug,
        title=title,
        columns=tuple(one.column for one in columns),
        rows=rows,
        note=" ".join(note for note in notes if note),
    )
