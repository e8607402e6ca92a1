"""docs/performance.md says what the committed figures say."""

from __future__ import annotations

import write_performance


def test_the_page_is_the_one_that_the_committed_figures_make() -> None:
    assert write_performance.page() == write_performance.PAGE.read_text(encoding="utf-8"), (
        "run python benchmarks/write_performance.py"
    )


def test_a_figure_stands_in_the_table_with_its_ratio_and_the_floor_without_one() -> None:
    row = {"name": "hybatch cpu", "size": 1024, "what": "forward + backward", "p50": 0.5, "ratio": 2.0}
    floor = {**row, "name": "3 matrix products", "p50": 0.25, "ratio": None, "floor": None}
    text = write_performance.contrastive({"rows": [{**row, "floor": "3 matrix products"}, floor]})
    assert "0.500 (2.00x)" in text
    assert "0.250 |" in text
