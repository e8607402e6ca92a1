"""Results of tasks with one row of figures a language stand side by side in a report."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from hybatch.evaluation.results import write_results
from hybatch.reporting.command import main
from tests.reporting.synthetic import make_results


def _results(model: str, level: float) -> dict[str, Any]:
    figures = {
        language: {"ndcg@10": level + i / 100, "map": level / 2, "median_first_rank": 7.0, "num_queries": 5}
        for i, language in enumerate(("sw", "yo"))
    }
    mean = {"ndcg@10": level + 0.005, "map": level / 2, "median_first_rank": 7.0, "num_languages": 2}
    summary = {"xtreme": {**mean, "num_languages": 1}, "mean": mean}
    metrics = ["ndcg@10", "map", "median_first_rank"]
    described = {"task": "miracl", "model": model, "languages": ["sw", "yo"], "metrics": metrics}
    return {**described, "figures": figures, "summary": summary}


def test_a_folder_of_all_kinds_of_results_makes_one_report(tmp_path: Path) -> None:
    for name, level in (("hybrid", 0.5), ("x-y", 0.4)):
        write_results(tmp_path / name / "miracl", _results(f"runs/{name}", level), {})
    write_results(tmp_path / "hybrid" / "mlqa-r", make_results("runs/hybrid"), {})
    output = tmp_path / "report"
    assert main([str(tmp_path / "hybrid"), str(tmp_path / "x-y"), "--output", str(output)]) == 0
    page = (output / "report.md").read_text()
    assert "miracl: means over 2 languages" in page
    assert "miracl: means over 1 languages (xtreme)" in page
    assert "| hybrid | **0.5050** | **0.2500** | **7.0** |" in page
    assert "miracl: ndcg@10 by language" in page
    names = {path.name for path in (output / "tables").iterdir()}
    assert {"miracl-summary.csv", "miracl-by-language.tex", "mlqa-r-summary.csv"} <= names
    with open(output / "all-figures.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == "miracl"]
    assert len(rows) == 2 * 2 * 4
    assert ("yo", "", "ndcg@10", "0.51") in {
        (row["query_language"], row["candidate_language"], row["metric"], row["value"]) for row in rows
    }
