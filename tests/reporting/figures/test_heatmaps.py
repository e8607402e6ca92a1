"""Figures are readable files; equal input gives equal bytes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from hybatch.reporting.figures.curves import draw_learning_curves
from hybatch.reporting.figures.files import FigureFolder, save_figure
from hybatch.reporting.figures.heatmaps import draw_difference_heatmap, draw_heatmap
from tests.reporting.synthetic import checked, make_results


def _pixels(path: Path) -> np.ndarray:
    return matplotlib.image.imread(path)


@pytest.mark.parametrize("count", [1, 7, 18])
def test_a_heatmap_grows_with_the_languages(tmp_path: Path, count: int) -> None:
    languages = tuple(f"l{i:02}" for i in range(count))
    save_figure(draw_heatmap(checked(make_results("m", languages=languages, task="t"))), tmp_path / "h.png")
    height, width = _pixels(tmp_path / "h.png").shape[:2]
    assert width > 60 * count
    assert height > 60 * count


@pytest.mark.parametrize("languages", [("de",), ("de", "en"), ("arb_Arab", "eng_Latn", "zho_Hans", "zho_Hant")])
@pytest.mark.parametrize("model", ["m", "multilingual-e5-base-hybrid-seed-1/final, lir", "модель " * 9])
def test_no_word_of_a_heatmap_is_cut_off_or_runs_into_another(languages: tuple[str, ...], model: str) -> None:
    figure = draw_heatmap(checked(make_results("m", languages=languages, task="belebele")), title=model)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    pairs, pool = figure.axes[:2]
    names = [label.get_window_extent(renderer) for label in pairs.get_xticklabels()]
    assert all(one.x1 < other.x0 for one, other in pairwise(names))
    below = pairs.xaxis.label.get_window_extent(renderer)
    assert all(below.y1 < name.y0 for name in names)
    assert below.x1 < pool.xaxis.label.get_window_extent(renderer).x0
    for words in (figure._suptitle, *pairs.get_yticklabels(), pairs.xaxis.label, pairs.yaxis.label):
        assert words is not None
        box = words.get_window_extent(renderer)
        assert box.x0 > 0, words
        assert box.y0 > 0, words
        assert box.x1 < figure.bbox.x1, words
        assert box.y1 < figure.bbox.y1, words


def test_a_heatmap_depends_on_the_figures_alone(tmp_path: Path) -> None:
    for name, level in (("a", 0.5), ("b", 0.5), ("c", 0.4)):
        FigureFolder(tmp_path).write(draw_heatmap(checked(make_results("m", level))), name, "a caption")
    for form in (".png", ".svg"):
        a, b, c = ((tmp_path / f"{name}{form}").read_bytes() for name in "abc")
        assert a == b != c


def test_pairs_without_queries_are_drawn_grey(tmp_path: Path) -> None:
    results = make_results("m", languages=("aa", "bb"), task="t")
    save_figure(draw_heatmap(checked(results)), tmp_path / "whole.png")
    results["pairs"]["aa"]["bb"]["map"] = None
    save_figure(draw_heatmap(checked(results)), tmp_path / "part.png")

    def grey(name: str) -> int:
        return int((np.abs(_pixels(tmp_path / name)[..., :3] - 0.85) < 0.01).all(axis=-1).sum())

    assert grey("part.png") > grey("whole.png") + 1000


def test_a_difference_needs_two_results_of_one_task(tmp_path: Path) -> None:
    one = checked(make_results("m"))
    figure = draw_difference_heatmap(one, checked(make_results("other", 0.4)))
    low, high = figure.axes[0].get_images()[0].get_clim()
    assert -low == high > 0.05
    save_figure(draw_difference_heatmap(one, one), tmp_path / "none.png")
    with pytest.raises(ValueError, match="one task"):
        draw_difference_heatmap(one, checked(make_results("m", languages=("ar", "de"))))


def test_curves_stand_in_one_panel_each(tmp_path: Path) -> None:
    curve = {"x-y": [(1, 3.0), (2, 2.0)]}
    save_figure(draw_learning_curves({"training loss": curve}, title="run"), tmp_path / "one.png")
    save_figure(
        draw_learning_curves({"training loss": curve, "validation mAP": curve}, title="run"), tmp_path / "two.png"
    )
    assert _pixels(tmp_path / "two.png").shape[1] > 1.8 * _pixels(tmp_path / "one.png").shape[1]
