"""What the benchmarks draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bench_contrastive
import bench_ranking
import matplotlib.pyplot as plt
import pytest


@pytest.fixture
def figures_closed() -> Any:
    yield
    plt.close("all")


def _row(what: str, name: str, floor: str | None, size: int, peak_bytes: int | None) -> dict[str, Any]:
    return {"what": what, "name": name, "floor": floor, "size": size, "p50": 1.0, "peak_bytes": peak_bytes}


@pytest.mark.usefixtures("figures_closed")
def test_a_contender_has_one_colour_in_every_panel_and_no_memory_is_drawn_as_none(tmp_path: Path) -> None:
    rows = [
        _row("forward", "1 product", None, 8, 5_000_000),
        _row("forward", "ours", "1 product", 8, -4096),
        _row("forward", "ours", "1 product", 16, 2_000_000),
        _row("both", "3 products", None, 8, None),
        _row("both", "another", "3 products", 8, 0),
        _row("both", "ours", "3 products", 8, 0),
    ]
    bench_contrastive.draw({"rows": rows}, tmp_path / "figure.png")
    axes = plt.gcf().axes
    colours = [{line.get_label(): line.get_color() for line in axis.lines} for axis in axes[::2]]
    assert colours[0]["ours"] == colours[1]["ours"]
    assert colours[0]["1 product"] == colours[1]["3 products"]
    assert len({*colours[0].values(), *colours[1].values()}) == 3
    assert [line.get_color() for line in axes[1].lines] == list(colours[0].values())
    assert list(axes[1].lines[1].get_ydata()) == [0, 2]
    assert [axis.get_ylim()[0] for axis in axes[1::2]] == [0, 0]


@pytest.mark.usefixtures("figures_closed")
def test_a_bar_has_its_contenders_colour_whatever_else_is_in_the_panel(tmp_path: Path) -> None:
    entrants = {384: ["floor", "slow", "ours"], 768: ["floor", "ours"]}
    rows = [
        {"shape": "xquad-r", "width": width, "name": name, "p50": 1.0} for width in entrants for name in entrants[width]
    ]
    bench_ranking.draw({"rows": rows}, tmp_path / "figure.png")
    first, second = ([bar.get_facecolor() for bar in axis.patches] for axis in plt.gcf().axes)
    assert len(set(first)) == 3
    assert second == [first[0], first[2]]
