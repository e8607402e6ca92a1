"""A comparison for the terminal, and as comparison.md, .csv and .json."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from hybatch.atomic import atomic_file
from hybatch.errors import UserError
from hybatch.evaluation.results import dump
from hybatch.reporting.comparison.query_results import QueryResults, higher_is_better
from hybatch.reporting.comparison.rows import ComparisonOptions, ComparisonRow
from hybatch.reporting.tables.markdown import markdown_cell, markdown_text

LEVEL = 0.05
_TITLES = {
    "summary": "Overall",
    "bias": "Language bias: every metric",
    "breakdown": "By resource level, script, family, training",
    "setting": "Every setting",
}
_INTERVALS = {"percentile": "percentile", "bca": "BCa"}
_RULES = {"holm": "Holm", "bh": "Benjamini and Hochberg"}


@dataclass(frozen=True)
class Comparison:
    """Everything that one `hybatch compare` found.

    trained: label -> languages trained in, None where unknown. bias: label -> see `language_bias`, with "top_languages"
    of results.json; empty where the task has no pool of languages. bias_rows: see `compare_bias`.
    """

    results: Sequence[QueryResults]
    options: ComparisonOptions
    rows: Sequence[ComparisonRow]
    trained: Mapping[str, Sequence[str] | None]
    bias: Mapping[str, Mapping[str, Any]]
    bias_rows: Sequence[ComparisonRow] = ()

    @property
    def title(self) -> str:
        """What is compared with what."""
        baseline, *others = [one.label for one in self.results]
        return f"{self.results[0].results.task}, {self.options.metric}: {', '.join(others)} against {baseline}"

    @property
    def note(self) -> str:
        """How to read the intervals and p values."""
        options = self.options
        return (
            f"Difference with its {options.confidence:.0%} {_INTERVALS[options.interval]} interval, "
            f"{options.resamples:,} paired bootstrap resamples of questions; p of a sign-flip test; corrected after "
            f"{_RULES[options.correction]} over the rows of each table."
        )

    def findings(self) -> list[str]:
        """Per compared result, in how many settings it differs after correction."""
        lines = []
        least = sum(row.section == "setting" for row in self.rows) / (1 + self.options.resamples)
        if self.options.correction == "holm" and least >= LEVEL:
            lines.append(f"no setting can differ: the least corrected p is {least:.2g}; give more --resamples")
        for other in self.results[1:]:
            rows = [r for r in self.rows if r.section == "setting" and r.compared == other.label]
            sure = [r for r in rows if r.p_corrected < LEVEL]
            lower = sum(r.difference < 0 for r in sure)
            direction = higher_is_better(self.options.metric)
            better, worse = (lower, len(sure) - lower) if direction is False else (len(sure) - lower, lower)
            words = ("higher", "lower") if direction is None else ("better", "worse")
            lines.append(
                f"{other.label}: {words[0]} than {self.results[0].label} in {better} and {words[1]} in {worse} of "
                f"{len(rows)} settings (corrected p < {LEVEL})"
            )
        return lines


def terminal_tables(comparison: Comparison, sections: Sequence[str]) -> list[Table]:
    """One rich table a section; differences that hold after correction are bold."""
    tables = []
    for section in sections:
        rows = [row for row in (*comparison.rows, *comparison.bias_rows) if row.section == section]
        if not rows:
            continue
        table = Table(title=_TITLES[section], title_justify="left")
        for column, heading in enumerate(_headings(comparison)):
            table.add_column(heading, justify="left" if column < 2 else "right", no_wrap=column > 0)
        for row in rows:
            table.add_row(*_cells(row), style="bold" if row.p_corrected < LEVEL else None)
        tables.append(table)
    return tables


def bias_lines(comparison: Comparison) -> list[str]:
    """One line a result: its preference for the query's language and the spread over languages of what it finds."""
    lines = []
    for label, bias in comparison.bias.items():
        if bias["own_language_first"] is not None:
            lines.append(
                f"{label}: the answer in the question's own language comes first for {bias['own_language_first']:.1%} "
                f"of the questions (without preference {bias['own_language_first_uniform']:.1%})"
            )
        if bias["top_share_distance"] is not None:
            lines.append(
                f"{label}: answers in the top {bias['top']} lie {bias['top_share_distance']:.3f} from an even spread "
                "over the languages (0 none, 1 most)"
            )
        lines += [
            f"{label}: of all candidates in the top {k}, {top['own']:.1%} are in the question's own language (of the "
            f"pool {top['own_uniform']:.1%}); their languages lie {top['distance']:.3f} from those of the pool"
            for k, top in (bias["top_languages"] or {"top": {}})["top"].items()
        ]
    return lines


def write_comparison(comparison: Comparison, directory: Path) -> None:
    """Write the three files; each appears whole or not at all.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    try:
        with atomic_file(directory / "comparison.csv") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([field.name for field in dataclasses.fields(ComparisonRow)])
            writer.writerows([_exact(value) for value in dataclasses.astuple(row)] for row in comparison.rows)
        with atomic_file(directory / "comparison.json") as file:
            file.write(dump(_as_object(comparison)))
        with atomic_file(directory / "comparison.md") as file:
            file.write(_markdown(comparison))
    except OSError as error:
        raise UserError(f"--output {directory}: cannot be written ({error.strerror or error})") from error


def _headings(comparison: Comparison) -> tuple[str, ...]:
    percent = f"{comparison.options.confidence:.0%}"
    return ("compared", "", comparison.results[0].label, "value", "difference", percent, "p", "corrected")


def _cells(row: ComparisonRow) -> list[str]:
    digits = 1 if max(abs(row.baseline), abs(row.value)) > 1 else 4
    interval = f"[{row.low:+.{digits}f}, {row.high:+.{digits}f}]"
    values = (f"{row.baseline:.{digits}f}", f"{row.value:.{digits}f}", f"{row.difference:+.{digits}f}")
    return [row.compared, row.name, *values, interval, f"{row.p_value:.4f}", f"{row.p_corrected:.4f}"]


def _markdown(comparison: Comparison) -> str:
    findings = [f"- {markdown_text(line)}" for line in comparison.findings()]
    lines = [f"# {markdown_text(comparison.title)}", "", comparison.note, "", *findings, ""]
    for section, title in _TITLES.items():
        rows = [row for row in (*comparison.rows, *comparison.bias_rows) if row.section == section]
        if rows:
            lines += [f"## {title}", "", _pipes(_headings(comparison)), "|---|---|" + "---:|" * 6]
            lines += [*(_pipes(_cells(row)) for row in rows), ""]
    if comparison.bias:
        lines += ["## Language bias", "", *[f"- {markdown_text(line)}" for line in bias_lines(comparison)], ""]
        lines += [*_answer_shares(comparison), *_candidate_shares(comparison)]
    lines += ["## What was compared", "", "| | model | trained in |", "|---|---|---|"]
    for one in comparison.results:
        trained = comparison.trained[one.label]
        lines.append(
            _pipes([one.label, one.results.described_model, "unknown" if trained is None else " ".join(trained)])
        )
    return "\n".join(lines) + "\n"


def _answer_shares(comparison: Comparison) -> list[str]:
    languages = comparison.results[0].languages
    lines = [_pipes(["share of the answers in the top", *languages]), "|---|" + "---:|" * len(languages)]
    for label, bias in comparison.bias.items():
        for name, shares in ((label, bias["top_share"]), (f"{label}, if even", bias["top_share_uniform"])):
            if shares is not None:
                lines.append(_pipes([name, *(f"{shares[language]:.3f}" for language in languages)]))
    return [*lines, ""]


def _candidate_shares(comparison: Comparison) -> list[str]:
    languages = comparison.results[0].languages
    known = {label: bias["top_languages"] for label, bias in comparison.bias.items() if bias["top_languages"]}
    if not known:
        return []
    rows = [("of the pool", next(iter(known.values()))["pool_share"])]
    rows += [(f"{label}, top {k}", top["mean_share"]) for label, one in known.items() for k, top in one["top"].items()]
    lines = [_pipes(["share of all candidates", *languages]), "|---|" + "---:|" * len(languages)]
    return [*lines, *(_pipes([name, *(f"{shares[x]:.3f}" for x in languages)]) for name, shares in rows), ""]


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_cell, cells)) + " |"


def _exact(value: Any) -> Any:
    return repr(value) if isinstance(value, float) else value


def _as_object(comparison: Comparison) -> dict[str, Any]:
    first = comparison.results[0]
    return {
        "task": first.results.task,
        "languages": first.languages,
        "baseline": first.label,
        "compared": [one.label for one in comparison.results[1:]],
        "models": {one.label: one.results.described_model for one in comparison.results},
        "trained_languages": dict(comparison.trained),
        "options": dataclasses.asdict(comparison.options),
        "rows": [dataclasses.asdict(row) for row in comparison.rows],
        "language_bias": dict(comparison.bias),
        **({"bias_rows": [dataclasses.asdict(row) for row in comparison.bias_rows]} if comparison.bias_rows else {}),
    }
