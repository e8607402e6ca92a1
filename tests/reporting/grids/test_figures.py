"""A grid's figures: drawn from means over seeds, whatever of the grid is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from hybatch.reporting.figures.files import FigureFolder, save_figure
from hybatch.reporting.grids.families import families, styles
from hybatch.reporting.grids.figures.all_figures import write_grid_figures
from hybatch.reporting.grids.figures.by_pair import draw_gains, draw_pairs, gain_matrix, mean_matrix
from hybatch.reporting.grids.figures.by_sampling import (
    by_alpha,
    draw_alpha,
    draw_curves,
    draw_rank_distance,
    draw_trade_off,
    mean_curves,
)
from hybatch.reporting.grids.groups import Grid, gather_grid
from hybatch.reporting.grids.record_folder import read_record_folder
from hybatch.reporting.grids.records import Run
from tests.reporting.grids.synthetic import DESCRIPTION, LANGUAGES, Spec, core, write_record

SAMPLINGS = ("x-x-mono", "x-y", "hybrid", "x-x", "en-en", "sequential", "hybrid-scheduled")

ALPHAS = [Spec(alpha=0.25), Spec(alpha=0.75)]


def _grid(folder: Path, specs: Sequence[Spec], tasks: Sequence[str] = ("xquad-r",)) -> Grid:
    options = {"num_questions": 5, "tatoeba": (), "tasks": dict.fromkeys(tasks, LANGUAGES)}
    return gather_grid([read_record_folder(write_record(folder, spec, **options)) for spec in specs], DESCRIPTION)


def _matrix(run: Run) -> np.ndarray:
    """[G, G + 1] mAP read out of results.json by hand."""
    results = run.results["xquad-r"]
    matrix = np.empty((len(LANGUAGES), len(LANGUAGES) + 1))
    for i, x in enumerate(LANGUAGES):
        for j, y in enumerate(LANGUAGES):
            matrix[i, j] = results.pairs[x][y]["map"]
        matrix[i, -1] = results.multilingual[x]["map"]
    return matrix


def test_families_are_of_one_start_and_the_same_unseen_languages(tmp_path: Path) -> None:
    specs = [*core(("scratch", "mini-xlmr"), (1,)), Spec(alpha=0.5, unseen=("bb", "cc"))]
    found = families(_grid(tmp_path, specs))
    assert [one.title for one in found] == ["mini-xlmr", "mini-xlmr without bb, cc", "scratch"]
    assert [len(one.groups) for one in found] == [3, 1, 3]


def test_samplings_look_different_and_the_same_in_every_family(tmp_path: Path) -> None:
    every = [Spec(sampling=sampling, alpha=0.5 if sampling == "hybrid" else None) for sampling in SAMPLINGS]
    grid = _grid(tmp_path, [*every, *ALPHAS, *core(("mini-labse",), (1,))])
    looks = styles(grid)
    assert set(looks) == {group.label for group in grid.groups}
    assert len({look.marker for look in looks.values()}) == len({look.colour for look in looks.values()}) == 9


def test_a_heatmap_shows_means_over_seeds_and_all_share_one_scale(tmp_path: Path) -> None:
    grid = _grid(tmp_path, core(seeds=(1, 2)))
    hybrid = grid.group("mini-xlmr", "hybrid")
    assert hybrid is not None
    assert mean_matrix(hybrid, "xquad-r") == pytest.approx((_matrix(hybrid.runs[0]) + _matrix(hybrid.runs[1])) / 2)
    drawn = list(draw_pairs(grid, "xquad-r"))
    assert [group.label for _, group, _ in drawn] == ["X-X-mono", "X-Y", "hybrid"]
    limits = {image.get_clim() for _, _, figure in drawn for axes in figure.axes for image in axes.get_images()}
    highest = max(_matrix(run).max() for run in grid.runs)
    ((low, high),) = limits
    assert low == 0
    assert highest <= high < highest + 0.05


def test_the_better_rival_is_chosen_cell_by_cell(tmp_path: Path) -> None:
    # Equal levels: the noise of each cell decides which rival is the better one there.
    specs = [Spec(sampling=one, alpha=0.5 if one == "hybrid" else None, level=0.1) for one in SAMPLINGS[:3]]
    grid = _grid(tmp_path, [*specs, Spec(sampling="x-x", level=0.4)])
    by_sampling = {run.sampling: _matrix(run) for run in grid.runs}
    gain = gain_matrix(families(grid)[0], DESCRIPTION.claims[0], "xquad-r")
    rivals = np.stack([by_sampling["x-x-mono"], by_sampling["x-y"]])
    assert gain == pytest.approx(by_sampling["hybrid"] - rivals.max(axis=0))
    assert len(set(rivals.argmax(axis=0).ravel())) == 2
    ((_, figure),) = draw_gains(grid, DESCRIPTION.claims[0], "xquad-r")
    low, high = figure.axes[0].get_images()[0].get_clim()
    assert -low == high == pytest.approx(np.abs(gain).max())
    assert f"at or above it in {int((gain >= 0).sum())} of 12 cells" in figure.get_suptitle()


def test_alpha_runs_from_x_y_over_hybrid_to_x_x_mono(tmp_path: Path) -> None:
    grid = _grid(tmp_path, [*core(seeds=(1, 2)), *ALPHAS, Spec(sampling="sequential")])
    groups = by_alpha(families(grid)[0], "xquad-r")
    assert {alpha: group.label for alpha, group in groups.items()} == {
        0.0: "X-Y",
        0.25: "hybrid 0.25",
        0.5: "hybrid",
        0.75: "hybrid 0.75",
        1.0: "X-X-mono",
    }
    figure = draw_alpha(grid, "xquad-r")
    assert figure is not None
    curves = {one.get_label(): one.lines[0].get_xydata() for one in figure.axes[0].containers}
    assert list(curves) == ["monolingual", "cross-lingual", "multilingual"]
    hybrid = [run.results["xquad-r"].summary["multilingual"]["map"] for run in groups[0.5].runs]
    assert curves["multilingual"][2] == pytest.approx([0.5, sum(hybrid) / 2])


def test_rank_distance_has_a_place_for_every_language_and_the_mean_and_cuts_no_point_off(tmp_path: Path) -> None:
    grid = _grid(tmp_path, core(seeds=(1, 2)))
    figure = draw_rank_distance(grid, "xquad-r")
    assert figure is not None
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [*LANGUAGES, "mean"]
    low, high = axes.get_ylim()
    for container in axes.containers:
        values = container.lines[0].get_ydata()
        assert len(values) == 4
        assert values[-1] == pytest.approx(np.mean(values[:-1]))
        assert low == 0 < min(values) <= max(values) < 0.95 * high


def test_the_trade_off_shows_every_run_and_every_mean(tmp_path: Path) -> None:
    grid = _grid(tmp_path, core(seeds=(1, 2)))
    figure = draw_trade_off(grid, "xquad-r")
    assert figure is not None
    points = np.concatenate([line.get_xydata() for line in figure.axes[0].lines])
    runs = [
        [run.results["xquad-r"].summary[setting]["map"] for setting in ("monolingual", "multilingual")]
        for run in grid.runs
    ]
    means = np.reshape(runs, (3, 2, 2)).mean(axis=1)
    assert np.sort(points, axis=0) == pytest.approx(np.sort([*runs, *means], axis=0))


def test_a_learning_curve_is_the_mean_of_its_stretch_over_all_seeds(tmp_path: Path) -> None:
    for seed, rows in (
        (1, '{"step": 1, "kind": "x-y", "loss": 4}\n{"step": 400, "kind": "x-y", "loss": 1}\n'),
        (2, '{"step": 3, "kind": "x-y", "loss": 2}\n{"step": 398, "kind": "x-y", "loss": 3}\n'),
        (3, '{"step": 3, "validation": {"loss": {"x-y": 7}}}\n'),
    ):
        folder = write_record(tmp_path, Spec(alpha=0.5, seed=seed), num_questions=5, tatoeba=())
        (folder / "metrics.jsonl").write_text(rows)
    grid = gather_grid([read_record_folder(folder) for folder in tmp_path.iterdir()], DESCRIPTION)
    assert mean_curves(grid.groups[0]) == {
        "training loss, x-y": [(2, 3.0), (399, 2.0)],
        "validation loss, x-y": [(3, 7.0)],
    }
    figure = draw_curves(families(grid)[0], styles(grid))
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == ["training loss, x-y", "validation loss, x-y"]


def test_one_run_alone_has_no_rival_no_alpha_and_needs_no_curve(tmp_path: Path) -> None:
    record = _grid(tmp_path, [Spec(sampling="x-y")], ("xquad-r", "mlqa-r")).runs[0].path.parent
    (record / "metrics.jsonl").unlink()
    drawn = write_grid_figures(gather_grid([read_record_folder(record)], DESCRIPTION), FigureFolder(tmp_path / "out"))
    assert [one.name for figures in drawn.values() for one in figures] == [
        "trial-trade-off-xquad-r.png",
        "trial-trade-off-mlqa-r.png",
        "trial-rank-distance-xquad-r.png",
        "trial-rank-distance-mlqa-r.png",
        "trial-pairs-xquad-r-mini-xlmr-X-Y.png",
        "trial-pairs-mlqa-r-mini-xlmr-X-Y.png",
    ]


def test_figures_are_files_of_their_own_that_name_no_date_and_fetch_nothing(tmp_path: Path) -> None:
    grid = _grid(tmp_path / "records", core(seeds=(1,)))
    drawn = [one for figures in write_grid_figures(grid, FigureFolder(tmp_path / "out")).values() for one in figures]
    names = {one.name for one in drawn} | {one.vector_name for one in drawn}
    assert names == {path.name for path in (tmp_path / "out").iterdir()}
    assert len(names) == 2 * (3 + 1 + 1 + 3)
    for one in drawn:
        text = (tmp_path / "out" / one.vector_name).read_text()
        root = ElementTree.fromstring(text)
        references = [value for node in root.iter() for name, value in node.attrib.items() if name.endswith("href")]
        assert all(value.startswith(("#", "data:")) for value in references)
        assert "dc:date" not in text
        assert (tmp_path / "out" / one.name).read_bytes().startswith(b"\x89PNG")


def test_equal_studies_give_equal_bytes(tmp_path: Path) -> None:
    grid = _grid(tmp_path / "records", core(seeds=(1,)))
    for name in ("one", "two"):
        figure = draw_alpha(grid, "xquad-r")
        assert figure is not None
        save_figure(figure, tmp_path / f"{name}.png", tmp_path / f"{name}.svg")
    for form in ("png", "svg"):
        assert (tmp_path / f"one.{form}").read_bytes() == (tmp_path / f"two.{form}").read_bytes()
