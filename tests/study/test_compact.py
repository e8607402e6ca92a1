"""Full records become records of a file each, from which the report makes the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.reporting.grids.figures.by_pair import mean_matrix
from hybatch.reporting.grids.figures.by_sampling import mean_curves
from hybatch.reporting.grids.groups import Grid
from hybatch.reporting.grids.tables.all_tables import grid_tables
from hybatch.reporting.grids.tables.provenance import grid_provenance
from hybatch.reporting.inputs import read_inputs
from hybatch.reporting.tables.render import csv_text, latex, markdown
from hybatch.reporting.tables.words import text_markdown
from study.compact import main
from tests.reporting.grids.synthetic import GRID_YAML, core, write_records


def test_the_report_of_records_is_that_of_the_full_ones(tmp_path: Path) -> None:
    full = write_records(tmp_path / "full", core(("mini-xlmr", "scratch"), (1, 2)), num_questions=12)
    assert main([str(full), "--output", str(tmp_path / "records")]) == 0
    (tmp_path / "records" / "grid.yaml").write_text(GRID_YAML)
    assert len(list((tmp_path / "records").glob("*.record.json"))) == 12
    grids = [read_inputs([str(tmp_path / name)]).grid for name in ("full", "records")]
    before, after = ([*_tables(grid), *_drawn(grid)] for grid in grids if grid)
    assert before == after


def _tables(grid: Grid) -> list[str]:
    tables = [form(table) for table in grid_tables(grid) for form in (csv_text, latex, markdown)]
    return [*tables, *map(text_markdown, grid_provenance(grid))]


def _drawn(grid: Grid) -> list[str]:
    """What figures are drawn from, beside the figures of tables."""
    return [repr((mean_curves(group), mean_matrix(group, "xquad-r").tolist())) for group in grid.groups]


def test_a_folder_without_full_records_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--output", str(tmp_path / "records")]) == 2
    assert f"{tmp_path}: no folder with a study.json" in capsys.readouterr().err
