"""The paper's tables from measured results, with the published figures below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybatch.evaluation.table import cross_lingual_means
from hybatch.reporting.published import SOURCE, published_languages, published_models, published_value

SAMPLING_NAMES = {"x-x-mono": "X-X-mono", "x-y": "X-Y", "hybrid": "hybrid", "x-x": "X-X", "en-en": "En-En"}
MODEL_NAMES = {"xlm-r": "XLM-R", "labse": "LaBSE"}


@dataclass(frozen=True)
class Measured:
    """One results.json and what the tables call it."""

    label: str
    results: Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of figures: its heading, digits after the point, and which end is better; None where neither is."""

    heading: str
    digits: int = 4
    higher_is_better: bool | None = True


@dataclass(frozen=True)
class Row:
    """A row of figures or words; None where there is no such figure. `measured` is False for published ones.

    block: rows are ranked among the measured rows of their block; a rule sets blocks apart.
    deviations, counts: of figures that are means over several runs, their standard deviations (None with one run) and
        the numbers of runs; empty in a row of single figures.
    signs: what stands after each figure, such as a mark of significance; empty without any.
    """

    label: str
    values: tuple[float | str | None, ...]
    measured: bool = True
    block: str = ""
    deviations: tuple[float | None, ...] = ()
    counts: tuple[int | None, ...] = ()
    signs: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportTable:
    """A table before it is rendered. `slug` names its files."""

    slug: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True)
class Setting:
    """What a per-language table shows: a metric of a kind of setting."""

    slug: str
    title: str
    setting: str
    metric: str
    digits: int = 4
    higher_is_better: bool = True


SETTINGS = (
    Setting("monolingual", "monolingual mAP", "monolingual", "map"),
    Setting(
        "cross-lingual", "cross-lingual mAP by query language (mean over candidate languages)", "cross_lingual", "map"
    ),
    Setting("multilingual", "multilingual mAP by query language", "multilingual", "map"),
    Setting(
        "rank-distance", "rank distance by query language", "multilingual", "rank_distance", 1, higher_is_better=False
    ),
)
HEADINGS = {"monolingual": "Mo.", "cross-lingual": "Cr.", "multilingual": "Mul.", "rank-distance": "rank distance"}


def report_tables(measured: Sequence[Measured]) -> list[ReportTable]:
    """For every task: the summary in the form of the paper's Table 1, then one table per kind of setting.

    Results of one task over other languages are another task here: their means do not compare.
    """
    tables = []
    for name, group in by_task(measured).items():
        tables.append(_summary_table(name, group))
        tables.extend(_language_table(name, group, setting) for setting in SETTINGS)
    return tables


def by_task(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Results by task; a task over fewer languages than another result of it carries their names."""
    groups: dict[tuple[str, tuple[str, ...]], list[Measured]] = {}
    for one in measured:
        groups.setdefault((one.results["task"], tuple(one.results["languages"])), []).append(one)
    tasks = [task for task, _ in groups]
    return {
        task if tasks.count(task) == 1 else f"{task} ({' '.join(languages)})": group
        for (task, languages), group in groups.items()
    }


def _summary_table(name: str, group: Sequence[Measured]) -> ReportTable:
    columns = tuple(Column(HEADINGS[s.slug], s.digits, s.higher_is_better) for s in SETTINGS)
    rows = [Row(one.label, tuple(one.results["summary"][s.setting].get(s.metric) for s in SETTINGS)) for one in group]
    published, note = _published_rows(group[0].results, [(s, "mean") for s in SETTINGS])
    counts = group[0].results["summary"]
    sizes = ", ".join(f"{counts[s]['num_settings']} {s.replace('_', '-')}" for s in ("monolingual", "cross_lingual"))
    return ReportTable(
        slug=f"{file_name(name)}-summary",
        title=f"{name}: mAP in every kind of setting and rank distance",
        columns=columns,
        rows=(*rows, *published),
        note=f"Mo., Cr., Mul.: mAP, means over {sizes} settings and one pool per query language. {note}".strip(),
    )


def _language_table(name: str, group: Sequence[Measured], setting: Setting) -> ReportTable:
    languages = list(group[0].results["languages"])
    columns = tuple(Column(heading, setting.digits, setting.higher_is_better) for heading in (*languages, "mean"))
    rows = []
    for one in group:
        values = _by_language(one.results, setting)
        mean = one.results["summary"][setting.setting].get(setting.metric)
        rows.append(Row(one.label, (*(values[language] for language in languages), mean)))
    published, note = _published_rows(group[0].results, [(setting, language) for language in (*languages, "mean")])
    return ReportTable(
        slug=f"{file_name(name)}-{setting.slug}",
        title=f"{name}: {setting.title}",
        columns=columns,
        rows=(*rows, *published),
        note=note,
    )


def _by_language(results: Mapping[str, Any], setting: Setting) -> dict[str, float | None]:
    if setting.setting == "monolingual":
        return {language: row[language][setting.metric] for language, row in results["pairs"].items()}
    if setting.setting == "cross_lingual":
        return cross_lingual_means(results, setting.metric)
    return {language: row[setting.metric] for language, row in results["multilingual"].items()}


def _published_rows(results: Mapping[str, Any], cells: Sequence[tuple[Setting, str]]) -> tuple[list[Row], str]:
    """Published rows for (setting, language) cells, and what to say about them."""
    dataset, languages = results["task"], published_languages(results["task"])
    if not languages:
        return [], ""
    if list(results["languages"]) != languages:
        return [], f"The published figures are for {' '.join(languages)} and are left out: their pools differ."
    rows = []
    for model, sampling in published_models(dataset):
        values = tuple(published_value(model, sampling, dataset, s.setting, s.metric, lang) for s, lang in cells)
        label = f"{MODEL_NAMES.get(model, model)} {SAMPLING_NAMES.get(sampling, sampling)} (published)"
        rows.append(Row(label, values, measured=False))
    return rows, f"Published: {SOURCE}."


def file_name(name: str) -> str:
    """A label as part of a file's name: letters and digits of any script, the rest as hyphens."""
    return "".join(character if character.isalnum() else "-" for character in name).strip("-")
