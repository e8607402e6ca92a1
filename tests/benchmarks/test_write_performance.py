"""docs/performance.md says what the committed figures say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import write_performance


def test_the_page_is_the_one_that_the_committed_figures_make() -> None:
    assert write_performance.page() == write_performance.PAGE.read_text(encoding="utf-8"), (
        "run python benchmarks/write_performance.py"
    )


def test_a_figure_stands_in_the_table_with_its_ratio_and_the_floor_without_one() -> None:
    row = {"name": "hybatch cpu", "size": 1024, "what": "forward + backward", "p50": 0.5, "ratio": 2.0}
    floor = {**row, "name": "3 matrix products", "p50": 0.25, "ratio": None, "floor": None}
    text = write_performance.contrastive({"rows": [{**row, "floor": "3 matrix products"}, floor], "environment": {}})
    assert "0.500 (2.00x)" in text
    assert "0.250 |" in text


def test_a_contender_that_older_figures_lack_has_a_row_only_where_it_was_measured() -> None:
    row = {"name": "hybatch cpu", "size": 4096, "what": "forward + backward", "p50": 0.5, "ratio": 2.0, "floor": "3"}
    older = {"rows": [row], "environment": {}}
    assert "between torch's products" not in write_performance.contrastive(older)
    newer = {**older, "rows": [row, {**row, "name": "hybatch blas", "p50": 0.3, "ratio": 1.2}]}
    (line,) = (line for line in write_performance.contrastive(newer).splitlines() if "between torch's products" in line)
    assert "0.300 (1.20x)" in line


def test_a_further_processors_file_gets_a_table_of_its_own_with_shares_of_its_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = shutil.copytree(write_performance.RESULTS, tmp_path / "results")
    figures = json.loads((results / "ranking-cpu-zen4.json").read_text(encoding="utf-8"))
    figures["environment"] |= {"processor": "icelake", "peak_gflops": 100.0}
    figures["rows"] = [
        {**row, "gflop": 30.0, "p50": 0.4, "ratio": 1.5 if row["floor"] else None}
        for row in figures["rows"] if (row["shape"], row["width"]) == ("xquad-r", 384)
    ]  # fmt: skip
    for own in results.glob("*-icelake.json"):
        own.unlink()
    monkeypatch.setattr(write_performance, "RESULTS", results)
    before = write_performance.page()
    (results / "ranking-cpu-icelake.json").write_text(json.dumps(figures), encoding="utf-8")
    _, table = write_performance.page().split("Intel Xeon, Ice Lake, 2 cores; ")
    assert "peak 100 GFLOP/s:" in table.splitlines()[0]
    assert "| one matrix product | 0.400 (75%) |" in table
    assert "| **hybatch, C++** | 0.400 (1.50x, 75%) |" in table
    assert "Ice Lake" not in before


def test_a_gpus_tables_have_milliseconds_ratios_and_memory_and_gaps_where_nothing_was_timed() -> None:
    timed = {"name": "hybatch cuda, bf16", "p50": 0.0056, "ratio": 4.4}
    text = write_performance.ranking_on_gpu({"rows": [timed]})
    assert "| **hybatch, CUDA** |  |  | 5.6 (4.40x) |  |  |  |" in text
    row = {"name": "hybatch cuda", "what": "forward", "p50": 0.01184, "ratio": 1.23, "beyond_gradients": 9e6}
    floor = {**row, "name": "1 matrix product", "floor": None, "ratio": None, "p50": 0.00964}
    text = write_performance.contrastive_on_gpu({"rows": [floor, {**row, "floor": "1 matrix product"}]})
    assert "| the matrix products alone (1; 3; 4) | 9.64 |  |  |" in text
    assert "| **hybatch, CUDA** | 11.8 (1.23x, 9 MB) |  |  |" in text
    text = write_performance.gpu_tests({"groups": {"fp32": {"passed": 3, "not run": 1}}})
    assert "| fp32 | 3 | 0 | 0 | 0 | 1 |" in text


def test_a_results_file_is_named_after_the_processor_that_it_was_made_on() -> None:
    for path in write_performance.RESULTS.glob("*.json"):
        made_on = json.loads(path.read_text(encoding="utf-8")).get("environment", {}).get("processor")
        assert made_on in (None, path.stem.rpartition("-")[2]), path  # earlier ones do not say
