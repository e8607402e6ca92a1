"""The tables of the bias metrics and of the languages of the best candidates."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from hybatch.evaluation.settings.bias_metrics import BIAS_METRICS, GROUPS
from hybatch.evaluation.settings.language_bias import top_language_shares
from hybatch.reporting.inputs import ReportInputs
from hybatch.reporting.report import write_report
from hybatch.reporting.results import PairResults
from hybatch.reporting.tables.bias import bias_tables, metric_tables
from hybatch.reporting.tables.measured import Measured
from hybatch.reporting.tables.render import marks
from tests.reporting.synthetic import checked, make_results, with_bias


def _measured(label: str, own: float | None) -> Measured[PairResults]:
    results = make_results(label)
    if own is not None:
        shares = dict.fromkeys(results["languages"], 1 / len(results["languages"]))
        of_queries = dict.fromkeys(results["languages"], shares)
        top = {"share": of_queries, "mean_share": shares, "distance": own / 2, "own": own, "own_uniform": 0.2}
        results["top_languages"] = {"pool_share": shares, "top": {"10": top, "100": {**top, "own": 0.2}}}
    return Measured(label, checked(results))


def test_every_result_has_its_distance_and_its_preference_at_every_cutoff() -> None:
    [table] = bias_tables([_measured("biased", 0.8), _measured("older", None)])
    assert [column.heading for column in table.columns] == ["distance@10", "own@10", "distance@100", "own@100"]
    assert table.rows[0].values == pytest.approx((0.4, 4.0, 0.4, 1.0))
    assert table.rows[1].values == (None,) * 4


def test_no_preference_for_a_language_is_best_not_the_greatest_against_it() -> None:
    [table] = bias_tables([_measured("none", 0.2), _measured("against its own language", 0.02)])
    own = [c for c, column in enumerate(table.columns) if column.heading.startswith("own")]
    assert [table.rows[1].values[c] for c in own] == pytest.approx([0.1, 1.0])
    assert not [place for place in marks(table) if place[1] in own]


def test_results_from_before_have_no_table() -> None:
    assert bias_tables([_measured("older", None)]) == []


def test_there_is_no_preference_where_no_candidate_is_in_a_language_that_is_asked_in() -> None:
    queries, candidates = {"de": 0, "en": 3}, {"de": 12, "en": 0}
    counts = {"de": np.zeros((2, 2), dtype=np.int64), "en": np.array([[30, 0], [36, 0]])}
    results = make_results("x", languages=("de", "en")) | {
        "top_languages": top_language_shares(counts, queries, candidates)
    }
    [table] = bias_tables([Measured("x", checked(results))])
    assert table.rows[0].values == (0.0, None, 0.0, None)


def test_the_report_shows_it(tmp_path: Path) -> None:
    write_report(ReportInputs((_measured("biased", 0.8),), (), ()), tmp_path)
    assert "languages of the best candidates" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_every_metric_with_a_figure_has_a_column_in_the_table_of_its_group() -> None:
    results = checked(with_bias(make_results("new")))
    tables = metric_tables([Measured("new", results), _measured("older", None)])
    assert [table.title.split(", ")[1] for table in tables] == list(GROUPS)
    shown = {c.heading: value for table in tables for c, value in zip(table.columns, table.rows[0].values, strict=True)}
    expected = {m.label: results.bias_mean(m) for m in BIAS_METRICS.values() if not m.name.startswith("peer_answers")}
    assert shown == expected
    assert {value for table in tables for value in table.rows[1].values} == {None}
    for label in shown:
        assert any(f"{label}: " in table.note for table in tables)


def test_without_english_there_is_no_table_of_bilingual_pools() -> None:
    results = checked(with_bias(make_results("m", languages=("de", "zh")), pivot=None))
    assert [table.title for table in metric_tables([Measured("m", results)]) if "bilingual" in table.title] == []
    assert metric_tables([_measured("older", None)]) == []


def test_the_report_holds_the_metrics_their_figures_and_every_number_in_long_form(tmp_path: Path) -> None:
    results = {name: with_bias(make_results(name), level) for name, level in (("a", 0.4), ("b", 0.6))}
    write_report(ReportInputs(tuple(Measured(name, checked(one)) for name, one in results.items()), (), ()), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("language bias, first candidate", "English inclination", "bias-mlqa-r", "first-mlqa-r-a"):
        assert words in page
    assert (tmp_path / "tables" / "mlqa-r-bias-bilingual-pool.tex").is_file()
    with open(tmp_path / "all-figures.csv", newline="") as file:
        rows = {tuple(row[:5]): row[5] for row in csv.reader(file)}
    bilingual = results["b"]["language_bias"]["bilingual"]["de"]
    assert rows["b", "mlqa-r", "de", "de+en", "english_inclination"] == repr(bilingual["english_inclination"])
    assert rows["b", "mlqa-r", "de", "all", "lang_ndcg@10"] == "0.61"
