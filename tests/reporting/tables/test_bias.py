"""The table of the languages of the best candidates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybatch.evaluation.settings.language_bias import top_language_shares
from hybatch.reporting.inputs import ReportInputs
from hybatch.reporting.report import write_report
from hybatch.reporting.results import PairResults
from hybatch.reporting.tables.bias import bias_tables
from hybatch.reporting.tables.measured import Measured
from tests.reporting.synthetic import checked, make_results


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
