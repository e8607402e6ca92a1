"""The table and the figure of small vectors."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.reporting.inputs import ReportInputs
from hybatch.reporting.report import write_report
from hybatch.reporting.results import PairResults, results_from
from hybatch.reporting.tables.measured import Measured
from hybatch.reporting.tables.vectors import vector_tables
from tests.reporting.synthetic import checked, make_results

CHOICES = (("float32", 1024, 4096), ("int8", 1024, 1024), ("binary", 256, 32))


def _results(kind: str, dimensions: int, size: int) -> dict[str, Any]:
    return make_results("models/e5") | {
        "vectors": {"kind": kind, "dimensions": dimensions, "bytes": size},
        "ties": {"positives_tied": 3, "map_optimistic": 0.75, "map_pessimistic": 0.25},
    }


def _measured() -> list[Measured[PairResults]]:
    found = [checked(_results(*choice)) for choice in CHOICES]
    return [*(Measured(one.marked("e5"), one) for one in found), Measured("plain", checked(make_results("plain")))]


def test_the_table_has_a_row_for_each_choice_and_none_for_other_results() -> None:
    [table] = vector_tables(_measured())
    assert [row.label for row in table.rows] == ["e5, float32 x 1024", "e5, int8 x 1024", "e5, binary x 256"]
    assert [row.values[0] for row in table.rows] == [4096, 1024, 32]
    assert {row.values[-2:] for row in table.rows} == {(0.25, 0.75)}
    assert [row.values[3] for row in table.rows] == [
        one.results.summary["multilingual"]["map"] for one in _measured()[:3]
    ]


def test_results_without_vectors_have_no_table() -> None:
    assert vector_tables(_measured()[3:]) == []


def test_the_report_holds_the_table_and_the_figure_beside_it(tmp_path: Path) -> None:
    write_report(ReportInputs(measured=tuple(_measured()), by_language=(), curves=()), tmp_path)
    task = checked(make_results("plain")).task
    assert (tmp_path / f"vectors-{task}.png").exists()
    assert f"vectors-{task}.png" in (tmp_path / "report.md").read_text()
    with open(tmp_path / "tables" / f"{task}-vectors.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + len(CHOICES)


@pytest.mark.parametrize("wrong", [{"kind": 3}, {"dimensions": "many"}, {"bytes": -1}])
def test_what_is_wrong_in_it_is_named(wrong: dict[str, Any]) -> None:
    results = _results(*CHOICES[0])
    results["vectors"] |= wrong
    with pytest.raises(UserError, match=f"'vectors.{next(iter(wrong))}'"):
        results_from(results, "results.json")
