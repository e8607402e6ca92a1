"""The figures of language bias."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybatch.evaluation.settings.bias_metrics import BIAS_METRICS
from hybatch.reporting.figures.bias import draw_bias_against_map, draw_first_languages
from hybatch.reporting.figures.files import save_figure
from hybatch.reporting.tables.measured import Measured
from tests.reporting.synthetic import checked, make_results, with_bias


def _measured(label: str, level: float) -> Measured:
    return Measured(label, checked(with_bias(make_results(label, level), level)))


def test_the_first_languages_of_every_query_language_are_drawn_beside_what_was_no_answer(tmp_path: Path) -> None:
    results = with_bias(make_results("m", languages=("de", "en")), 0.25)
    results["language_bias"]["first"] = {"de": {"de": 0.125, "en": 0.875}, "en": None}
    figure = draw_first_languages(checked(results), title="m")
    pairs, wrong = (axes.get_images()[0].get_array().filled(np.nan) for axes in figure.axes[:2])
    np.testing.assert_array_equal(pairs, [[0.125, 0.875], [np.nan, np.nan]])
    assert wrong.ravel() == pytest.approx([0.5, 0.52])
    save_figure(figure, tmp_path / "first.png", tmp_path / "first.svg")
    assert "no answer" in (tmp_path / "first.svg").read_text(encoding="utf-8")


def test_results_from_before_have_no_such_figures() -> None:
    older = Measured("older", checked(make_results("older")))
    assert draw_first_languages(older.results, title="") is None
    assert draw_bias_against_map([older, older], title="") is None
    assert draw_bias_against_map([older, _measured("new", 0.5)], title="") is None


def test_every_headline_metric_has_a_panel_and_every_result_a_point() -> None:
    measured = [_measured("weak", 0.3), _measured("strong $x", 0.6), Measured("older", checked(make_results("older")))]
    figure = draw_bias_against_map(measured, title="t")
    headlines = [metric for metric in BIAS_METRICS.values() if metric.is_headline]
    assert len(figure.axes) == len(headlines) > 1
    for axes, metric in zip(figure.axes, headlines, strict=True):
        assert axes.get_ylabel() == metric.label
        for line, one in zip(axes.get_lines(), measured[:2], strict=True):
            x, y = line.get_xydata()[0]
            assert (x, y) == (one.results.summary["multilingual"]["map"], one.results.bias_mean(metric))


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        figure = draw_bias_against_map([_measured("weak", 0.3), _measured("strong $x", 0.6)], title="t")
        save_figure(figure, tmp_path / f"{name}.png", tmp_path / f"{name}.svg")
    for form in ("png", "svg"):
        assert (tmp_path / f"a.{form}").read_bytes() == (tmp_path / f"b.{form}").read_bytes()
