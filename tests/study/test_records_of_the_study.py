"""The records that the repository carries are those of its grid, and the report takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.reporting.inputs import read_inputs
from slurm.grid import read_grid

ROOT = Path(__file__).parent.parent.parent


def test_every_run_of_the_grid_has_a_record_and_the_report_reads_them_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = read_inputs([str(ROOT / "results" / "study")]).study
    assert study is not None
    runs = {run.name: run for run in study.runs}
    assert set(runs) == {run.name for run in read_grid(ROOT / "slurm" / "grids" / "study.txt")}
    for run in runs.values():
        assert set(run.results) == {"xquad-r", "mlqa-r", "tatoeba"}, run.name
        assert len(run.results["xquad-r"]["pairs"]) == 11
        assert len(run.results["mlqa-r"]["pairs"]) == 7
