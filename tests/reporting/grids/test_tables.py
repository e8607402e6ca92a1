"""A grid's tables: which there are, their rows, their marks, and what stands beside them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hybatch.reporting.grids.groups import Grid, summary_figure
from hybatch.reporting.grids.tables.all_tables import grid_tables
from hybatch.reporting.tables.pairs import ReportTable
from hybatch.reporting.tables.published import published_value
from hybatch.reporting.tables.render import csv_text, latex, markdown
from tests.reporting.grids.synthetic import (
    LANGUAGES,
    MLQA_LANGUAGES,
    XQUAD_LANGUAGES,
    Spec,
    core,
    read_grid,
    write_records,
)

RIVALS = [Spec(sampling=name) for name in ("x-x", "en-en", "sequential", "hybrid-scheduled")]
ALPHAS = [Spec(alpha=alpha) for alpha in (0.25, 0.75)]
UNSEEN = [Spec(sampling=name, unseen=("cc",)) for name in ("x-y", "x-x-mono")]


def _by_slug(grid: Grid) -> dict[str, ReportTable]:
    return {table.slug: table for table in grid_tables(grid)}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """The whole grid, in three languages."""
    specs = [*core(("mini-xlmr", "mini-labse")), *core(("scratch",), (1,)), *RIVALS, *ALPHAS, *UNSEEN]
    return read_grid(write_records(tmp_path_factory.mktemp("study"), specs))


@pytest.fixture(scope="module")
def tables(grid: Grid) -> dict[str, ReportTable]:
    return _by_slug(grid)


def test_the_claim_and_the_papers_tables_come_first(tables: dict[str, ReportTable]) -> None:
    assert list(tables) == [
        "trial-claim",
        "trial-claim-rank-distance",
        "trial-1-summary",
        "trial-2-rank-distance-summary",
        "trial-3-xquad-r-monolingual",
        "trial-4-xquad-r-cross-lingual",
        "trial-5-xquad-r-multilingual",
        "trial-6-mlqa-r-monolingual",
        "trial-7-mlqa-r-cross-lingual",
        "trial-8-mlqa-r-multilingual",
        "trial-xquad-r-rank-distance",
        "trial-mlqa-r-rank-distance",
        "trial-tatoeba-accuracy-to-pivot",
        "trial-tatoeba-accuracy-from-pivot",
        "trial-tatoeba-margin-accuracy-to-pivot",
        "trial-tatoeba-margin-accuracy-from-pivot",
        "trial-unseen-cc",
        "trial-alpha",
        "trial-scratch",
        "trial-cost",
    ]


def test_the_summary_has_a_row_a_group_that_has_a_backbone_and_saw_all_languages(
    tables: dict[str, ReportTable],
) -> None:
    table = tables["trial-1-summary"]
    samplings = ["X-X-mono", "X-Y", "hybrid", "X-X", "En-En", "sequential"]
    samplings += ["hybrid 0.25", "hybrid 0.75", "hybrid scheduled"]
    expected = [f"mini-xlmr {name}" for name in samplings] + [f"mini-labse {name}" for name in samplings[:3]]
    assert [row.label for row in table.rows] == expected
    assert {row.label.split()[0] for row in tables["trial-scratch"].rows} == {"scratch"}
    assert "Not published in these languages: XQuAD-R, MLQA-R." in table.note


def test_figures_are_the_means_over_seeds_with_their_deviations(grid: Grid, tables: dict[str, ReportTable]) -> None:
    row = tables["trial-1-summary"].rows[1]
    group = grid.group("mini-xlmr", "x-y")
    assert group is not None
    values = [summary_figure("mlqa-r", "cross_lingual")(run) for run in group.runs]
    assert row.values[4] == pytest.approx(np.mean(values), rel=1e-12)
    assert row.deviations[4] == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert row.counts[4] == 3
    printed = [line for line in markdown(tables["trial-1-summary"]).splitlines() if "mini-xlmr X-Y" in line]
    assert f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" in printed[0].replace("*", "")


def test_csv_keeps_mean_deviation_and_number_of_seeds_exactly(tables: dict[str, ReportTable]) -> None:
    table = tables["trial-1-summary"]
    rows = list(csv.DictReader(io.StringIO(csv_text(table))))
    assert rows[0]["XQuAD-R Mo."] == repr(table.rows[0].values[0])
    assert float(rows[0]["XQuAD-R Mo. sd"]) == table.rows[0].deviations[0]
    assert rows[0]["XQuAD-R Mo. n"] == "3"
    assert (rows[3]["XQuAD-R Mo. sd"], rows[3]["XQuAD-R Mo. n"]) == ("", "1")


@pytest.mark.parametrize("slug", ["trial-1-summary", "trial-xquad-r-rank-distance", "trial-4-xquad-r-cross-lingual"])
def test_best_and_second_are_found_within_each_start_by_a_plain_sort(tables: dict[str, ReportTable], slug: str) -> None:
    table = tables[slug]
    lines = [line.split(" | ") for line in markdown(table).splitlines() if line.startswith("| ")][1:]
    for start in ("mini-xlmr", "mini-labse"):
        rows = [r for r, row in enumerate(table.rows) if row.label.split()[0] == start]
        for c, column in enumerate(table.columns):
            printed = {r: f"{table.rows[r].values[c]:.{column.digits}f}" for r in rows}
            ranked = sorted(set(printed.values()), key=float, reverse=bool(column.higher_is_better))
            for r in rows:
                shown = re.match(r"(\*\*|<u>)?[\d.]+", lines[r][c + 1])
                assert shown is not None
                expected = {ranked[0]: "**", ranked[1]: "<u>"}.get(printed[r])
                assert shown[1] == expected, (slug, start, r, c)


def test_equal_figures_share_the_mark(tmp_path: Path) -> None:
    specs = [Spec(sampling=name, alpha=0.5 if name == "hybrid" else None) for name in ("x-x-mono", "x-y", "hybrid")]
    write_records(tmp_path, specs)
    for name in ("results.json", "questions.npz"):
        source = tmp_path / "hybrid0.5--mini-xlmr--seed1" / "xquad-r" / name
        (tmp_path / "x-y--mini-xlmr--seed1" / "xquad-r" / name).write_bytes(source.read_bytes())
    rows = markdown(_by_slug(read_grid(tmp_path))["trial-1-summary"]).splitlines()[4:7]
    assert [line.split(" | ")[1][:2] for line in rows] == ["<u", "**", "**"]


def test_only_hybrids_means_carry_a_sign_of_the_tests_verdict(tables: dict[str, ReportTable]) -> None:
    for slug in ("trial-1-summary", "trial-2-rank-distance-summary"):
        for row in tables[slug].rows:
            expected = "†" if row.label.endswith(" hybrid") else ""
            assert set(row.signs) == {expected}, row.label
    for row in tables["trial-3-xquad-r-monolingual"].rows:
        assert set(row.signs[:-1]) == {""}
        assert row.signs[-1] == ("†" if row.label.endswith(" hybrid") else "")


def _signs(directory: Path, specs: Sequence[Spec]) -> set[str]:
    rows = _by_slug(read_grid(write_records(directory, specs)))["trial-1-summary"].rows
    return {sign for row in rows for sign in row.signs}


def test_a_worse_hybrid_carries_the_other_sign_and_an_equal_one_none(tmp_path: Path) -> None:
    worse = [Spec(sampling="hybrid", alpha=0.5, level=-0.05), Spec(sampling="x-y"), Spec(sampling="x-x-mono")]
    assert _signs(tmp_path / "worse", worse) == {"", "‡"}
    equal = [
        Spec(sampling="hybrid", alpha=0.5, level=0.02),
        Spec(sampling="x-y"),
        Spec(sampling="x-x-mono", level=-0.5),
    ]
    assert _signs(tmp_path / "equal", equal) == {""}


def test_the_claim_table_says_better_with_the_figures_of_both(tables: dict[str, ReportTable]) -> None:
    table = tables["trial-claim"]
    assert [row.label for row in table.rows][:3] == [f"mini-xlmr XQuAD-R {name}" for name in ("Mo.", "Cr.", "Mul.")]
    assert len(table.rows) == 3 * 2 * 3
    assert table.note.startswith("Hybrid is better in 18 of 18.")
    first = dict(zip([column.heading for column in table.columns], table.rows[0].values, strict=True))
    assert (first["better rival"], first["verdict"], first["better seeds"]) == ("X-Y", "better", "3 of 3")
    assert first["difference"] == pytest.approx(0.03, abs=0.005)
    assert "**" not in markdown(table)
    assert "24 comparisons" in tables["trial-claim-rank-distance"].note


def test_languages_left_out_stand_beside_the_runs_that_saw_them(grid: Grid, tables: dict[str, ReportTable]) -> None:
    table = tables["trial-unseen-cc"]
    assert [row.label for row in table.rows] == [
        "mini-xlmr X-X-mono, unseen",
        "mini-xlmr X-Y, unseen",
        "mini-xlmr X-X-mono, seen",
        "mini-xlmr X-Y, seen",
    ]
    assert [column.heading for column in table.columns] == [
        f"XQuAD-R cc {name}" for name in ("Mo.", "Cr.", "Mul.", "rank distance")
    ]
    group = grid.group("mini-xlmr", "x-y", ("cc",))
    assert group is not None
    assert table.rows[1].values[0] == group.runs[0].results["xquad-r"].pairs["cc"]["cc"]["map"]


def test_alpha_runs_from_all_cross_lingual_to_all_monolingual(tables: dict[str, ReportTable]) -> None:
    assert [row.label for row in tables["trial-alpha"].rows] == [
        "mini-xlmr alpha 0 (X-Y)",
        "mini-xlmr alpha 0.25",
        "mini-xlmr alpha 0.5",
        "mini-xlmr alpha 0.75",
        "mini-xlmr alpha 1 (X-X-mono)",
        "mini-xlmr scheduled",
    ]


def test_the_cost_of_every_group_is_told(grid: Grid, tables: dict[str, ReportTable]) -> None:
    table = tables["trial-cost"]
    assert len(table.rows) == len(grid.groups)
    assert table.rows[0].values == pytest.approx((400, 320, 1.2))
    assert table.rows[0].deviations == pytest.approx((0, 10, 0.1))


def test_accuracy_is_shown_by_language_and_as_the_mean_of_all(grid: Grid, tables: dict[str, ReportTable]) -> None:
    table = tables["trial-tatoeba-accuracy-from-pivot"]
    assert [column.heading for column in table.columns] == ["mean of 2", "deu", "ell"]
    group = grid.group("mini-xlmr", "x-x")
    assert group is not None
    row = next(row for row in table.rows if row.label == "mini-xlmr X-X")
    assert row.values[2] == group.runs[0].results["tatoeba"].figures["ell"]["accuracy_from_pivot"]


def test_of_very_many_languages_those_of_xquad_r_are_shown(tmp_path: Path) -> None:
    languages = [f"x{n:02}" for n in range(20)] + ["deu", "tur"]
    grid = read_grid(write_records(tmp_path, [Spec(sampling="x-y")], tasks={}, tatoeba=languages))
    table = _by_slug(grid)["trial-tatoeba-accuracy-to-pivot"]
    assert [column.heading for column in table.columns] == ["mean of 22", "deu", "tur"]


def test_one_run_gives_tables_without_marks_or_claims(tmp_path: Path) -> None:
    tables = _by_slug(
        read_grid(write_records(tmp_path, [Spec(sampling="x-y")], tasks={"xquad-r": LANGUAGES}, tatoeba=()))
    )
    assert list(tables) == [
        "trial-1-summary",
        "trial-2-rank-distance-summary",
        "trial-3-xquad-r-monolingual",
        "trial-4-xquad-r-cross-lingual",
        "trial-5-xquad-r-multilingual",
        "trial-xquad-r-rank-distance",
        "trial-cost",
    ]
    for table in tables.values():
        assert not re.search(r"\*\*|<u>|†|‡|\d ± ", markdown(table))


def test_a_task_that_a_group_lacks_is_left_blank(tmp_path: Path) -> None:
    write_records(tmp_path, [Spec(sampling="x-y")])
    write_records(tmp_path, [Spec(sampling="x-x-mono")], tasks={"xquad-r": LANGUAGES})
    tables = _by_slug(read_grid(tmp_path))
    assert tables["trial-1-summary"].rows[0].values[3:] == (None, None, None)
    assert [row.label for row in tables["trial-6-mlqa-r-monolingual"].rows] == ["mini-xlmr X-Y"]


def test_published_rows_stand_after_the_start_that_stands_for_their_model(tmp_path: Path) -> None:
    specs = core(("mini-xlmr", "mini-labse"), (1,))
    shapes = {"xquad-r": XQUAD_LANGUAGES, "mlqa-r": MLQA_LANGUAGES}
    tables = _by_slug(read_grid(write_records(tmp_path, specs, tasks=shapes, num_questions=20)))
    labels = [row.label for row in tables["trial-1-summary"].rows]
    assert [" ".join(label.split()[:1]) for label in labels[::3]][:4] == ["mini-xlmr", "XLM-R", "mini-labse", "LaBSE"]
    assert labels[12:] == [f"mBERT {name} (published)" for name in ("En-En", "X-X", "X-X-mono", "X-Y")]
    for slug, measure, task in (
        ("trial-4-xquad-r-cross-lingual", ("cross_lingual", "map"), "xquad-r"),
        ("trial-8-mlqa-r-multilingual", ("multilingual", "map"), "mlqa-r"),
        ("trial-mlqa-r-rank-distance", ("multilingual", "rank_distance"), "mlqa-r"),
    ):
        row = next(row for row in tables[slug].rows if row.label == "LaBSE hybrid (published)")
        languages = (*shapes[task], "mean")
        assert row.values == tuple(published_value("labse", "hybrid", task, *measure, x) for x in languages)
        assert len(tables[slug].columns) == len(languages)
    text = latex(tables["trial-3-xquad-r-monolingual"])
    assert text.count(r"\midrule") == 4
    assert text.count("{") == text.count("}")
