"""Groups over seeds, and their means and standard deviations against numpy's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hybatch.reporting.grids.groups import (
    language_figure,
    summary_figure,
    task_figure,
)
from tests.reporting.grids.synthetic import LANGUAGES, Spec, core, read_grid, write_record, write_records


def test_a_groups_figures_are_the_mean_and_sample_deviation_over_its_seeds(tmp_path: Path) -> None:
    grid = read_grid(write_records(tmp_path, core()))
    files = [tmp_path / f"x-y--mini-xlmr--seed{seed}" / "xquad-r" / "results.json" for seed in (1, 2, 3)]
    results = [json.loads(path.read_text()) for path in files]
    group = grid.group("mini-xlmr", "x-y")
    assert group is not None
    expected = {
        summary_figure("xquad-r", "cross_lingual"): [r["summary"]["cross_lingual"]["map"] for r in results],
        summary_figure("xquad-r", "multilingual", "rank_distance"): [
            np.mean([row["rank_distance"] for row in r["multilingual"].values()]) for r in results
        ],
        language_figure("xquad-r", "monolingual", "bb"): [r["pairs"]["bb"]["bb"]["map"] for r in results],
        language_figure("xquad-r", "cross_lingual", "bb"): [
            (r["pairs"]["bb"]["aa"]["map"] + r["pairs"]["bb"]["cc"]["map"]) / 2 for r in results
        ],
        language_figure("xquad-r", "multilingual", "cc"): [r["multilingual"]["cc"]["map"] for r in results],
    }
    for figure, values in expected.items():
        estimate = group.estimate(figure)
        assert estimate is not None
        assert estimate.n == 3
        assert estimate.mean == pytest.approx(np.mean(values), rel=1e-12)
        assert estimate.sd == pytest.approx(np.std(values, ddof=1), rel=1e-12)


def test_one_seed_has_no_deviation_and_a_missing_task_no_figure(tmp_path: Path) -> None:
    grid = read_grid(write_records(tmp_path, core(seeds=(5,)), tasks={"xquad-r": LANGUAGES}))
    hybrid = grid.group("mini-xlmr", "hybrid")
    assert hybrid is not None
    estimate = hybrid.estimate(task_figure("tatoeba", "accuracy_to_pivot"))
    assert estimate is not None
    assert (estimate.sd, estimate.n) == (None, 1)
    assert hybrid.estimate(summary_figure("mlqa-r", "monolingual")) is None
    assert grid.group("mini-xlmr", "x-x") is None


def test_a_seed_that_lacks_a_task_is_not_counted_there(tmp_path: Path) -> None:
    write_records(tmp_path, core())
    shutil.rmtree(tmp_path / "hybrid0.5--mini-xlmr--seed2" / "mlqa-r")
    hybrid = read_grid(tmp_path).group("mini-xlmr", "hybrid")
    assert hybrid is not None
    counts = [hybrid.estimate(summary_figure(task, "monolingual")) for task in ("xquad-r", "mlqa-r")]
    assert [one.n for one in counts if one] == [3, 2]


def test_groups_stand_in_the_order_of_the_tables(tmp_path: Path) -> None:
    specs = [
        Spec(start="scratch", sampling="x-y"),
        Spec(start="base-xlmr", sampling="x-y"),
        Spec(start="mini-labse", sampling="x-y"),
        *(Spec(alpha=alpha) for alpha in (0.75, 0.25, 0.5)),
        *(Spec(sampling=s) for s in ("hybrid-scheduled", "sequential", "en-en", "x-x", "x-y", "x-x-mono")),
        Spec(sampling="x-y", seed=0),
        Spec(sampling="x-x-mono", unseen=("cc", "aa")),
    ]
    grid = read_grid(write_records(tmp_path, specs, tasks={}, tatoeba=()))
    assert grid.starts == ("mini-xlmr", "mini-labse", "base-xlmr", "scratch")
    assert [(group.label, group.unseen_languages) for group in grid.groups if group.start == "mini-xlmr"] == [
        ("X-X-mono", ()),
        ("X-Y", ()),
        ("hybrid", ()),
        ("X-X", ()),
        ("En-En", ()),
        ("sequential", ()),
        ("hybrid 0.25", ()),
        ("hybrid 0.75", ()),
        ("hybrid scheduled", ()),
        ("X-X-mono", ("aa", "cc")),
    ]
    assert [run.seed for run in grid.groups[1].runs] == [0, 1]


def test_the_papers_tasks_come_first(tmp_path: Path) -> None:
    write_record(
        tmp_path, Spec(sampling="x-y"), tasks={"belebele": LANGUAGES, "mlqa-r": LANGUAGES, "xquad-r": LANGUAGES}
    )
    grid = read_grid(tmp_path)
    assert list(grid.languages) == ["xquad-r", "mlqa-r", "belebele"]
    assert grid.figure_tasks == {"tatoeba": ("deu", "ell")}
