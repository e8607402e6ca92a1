"""Tables in the paper's form, and how they are rendered."""

from __future__ import annotations

import csv
import io

import pytest

from hybatch.reporting.tables.measured import Measured, by_task
from hybatch.reporting.tables.pairs import report_tables
from hybatch.reporting.tables.render import csv_text, latex, markdown, marks, terminal
from hybatch.reporting.tables.table import Column, ReportTable, Row
from hybatch.terminal import table_console
from tests.reporting.synthetic import checked, make_measured, make_results

TABLE = ReportTable(
    slug="t-summary",
    title="50% of a_b",
    columns=(Column("mAP"), Column("rank distance", 1, higher_is_better=False)),
    rows=(
        Row("one_run", (0.50001, 12.0)),
        Row("two|runs", (0.49999, 10.0)),
        Row("third", (0.6, None)),
        Row("XLM-R (published)", (0.9, 1.0), measured=False),
    ),
    note="A note.",
)


def test_the_summary_has_the_means_of_the_results_and_the_published_rows_below() -> None:
    results = make_results("m")
    summary = report_tables([Measured("m", checked(results))])[0]
    assert summary.rows[0].values == (
        results["summary"]["monolingual"]["map"],
        results["summary"]["cross_lingual"]["map"],
        results["summary"]["multilingual"]["map"],
        results["summary"]["multilingual"]["rank_distance"],
    )
    assert [row.measured for row in summary.rows] == [True] + [False] * 6
    assert summary.rows[3].label == "XLM-R hybrid (published)"
    assert summary.rows[3].values[:3] == pytest.approx((0.648, 0.623, 0.512), abs=6e-4)


def test_per_language_tables_hold_each_setting() -> None:
    results = make_results("m")
    tables = {table.slug: table for table in report_tables([Measured("m", checked(results))])}
    assert list(tables) == [
        f"mlqa-r-{s}" for s in ("summary", "monolingual", "cross-lingual", "multilingual", "rank-distance")
    ]
    assert tables["mlqa-r-monolingual"].rows[0].values[2] == results["pairs"]["en"]["en"]["map"]
    crossed = [figures["map"] for language, figures in results["pairs"]["en"].items() if language != "en"]
    assert tables["mlqa-r-cross-lingual"].rows[0].values[2] == pytest.approx(sum(crossed) / 6)
    assert tables["mlqa-r-rank-distance"].rows[0].values[:2] == (100.0, 110.0)
    assert [column.heading for column in tables["mlqa-r-multilingual"].columns][-2:] == ["zh", "mean"]


def test_published_figures_do_not_stand_beside_results_over_fewer_languages() -> None:
    summary = report_tables([make_measured("m", languages=("ar", "de"))])[0]
    assert all(row.measured for row in summary.rows)
    assert "left out" in summary.note


def test_results_over_other_languages_are_another_task() -> None:
    groups = by_task([make_measured("a"), make_measured("b", languages=("ar", "de"))])
    assert list(groups) == ["mlqa-r (ar de en es hi vi zh)", "mlqa-r (ar de)"]


def test_results_on_other_data_are_another_task() -> None:
    here, there, older = (
        Measured(label, checked(make_results(label) | digest))
        for label, digest in (("a", {"data_digest": "0a" * 8}), ("b", {"data_digest": "1b" * 8}), ("older", {}))
    )
    assert list(by_task([here, here])) == ["mlqa-r"]
    assert [len(group) for group in by_task([here, older]).values()] == [2]
    groups = by_task([here, there, here, older])
    assert {name: [one.label for one in group] for name, group in groups.items()} == {
        "mlqa-r (data 0a0a0a0a)": ["a", "a"],
        "mlqa-r (data 1b1b1b1b)": ["b"],
        "mlqa-r (data unknown)": ["older"],
    }
    fewer = Measured("c", checked(make_results("c", languages=("ar", "de")) | {"data_digest": "0a" * 8}))
    assert list(by_task([fewer, here, there])) == [
        "mlqa-r (ar de)",
        "mlqa-r (ar de en es hi vi zh, data 0a0a0a0a)",
        "mlqa-r (ar de en es hi vi zh, data 1b1b1b1b)",
    ]


def test_best_and_second_are_marked_as_printed_among_measured_rows() -> None:
    assert marks(TABLE) == {(2, 0): "best", (0, 0): "second", (1, 0): "second", (1, 1): "best"}


def test_a_single_measured_row_is_not_marked() -> None:
    assert marks(ReportTable("s", "t", TABLE.columns, (TABLE.rows[0], TABLE.rows[3]))) == {}


SEEDS = ReportTable(
    slug="seeds",
    title="Over seeds",
    columns=(Column("mAP", 3), Column("p", 2, higher_is_better=None), Column("verdict", higher_is_better=None)),
    rows=(
        Row("a", (0.5, -0.001, "x|y"), block="a", deviations=(0.01, None, None), counts=(3, 1, None)),
        Row("b", (0.4, -0.25, "none"), block="a", deviations=(None, None, None), signs=("†", "", "")),
        Row("c", (0.3, None, None), block="c"),
        Row("d", (0.3, 0.1, "[b]"), block="c"),
    ),
)


def test_rows_are_ranked_within_their_block_and_not_where_neither_end_is_better() -> None:
    assert marks(SEEDS) == {(0, 0): "best", (2, 0): "best", (3, 0): "best"}


def test_deviations_and_signs_follow_the_figure() -> None:
    lines = markdown(SEEDS).splitlines()
    assert lines[4:7] == [
        r"| a | **0.500** ± 0.010 | 0.00 | x\|y |",
        "| b | 0.400† | -0.25 | none |",
        "| c | **0.300** | – | – |",
    ]


def test_latex_sets_blocks_apart_and_writes_signs_as_mathematics() -> None:
    text = latex(SEEDS)
    assert r"a & \textbf{0.500} $\pm$ 0.010 & 0.00 & x\textbar{}y \\" in text
    assert r"b & 0.400$^{\dagger}$ & $-$0.25 & none \\" in text
    assert text.count(r"\midrule") == 2
    assert "resizebox" not in text


def test_latex_scales_a_table_that_is_too_wide_to_the_line() -> None:
    row = Row("a", (0.5,) * 7, deviations=(0.1,) * 7)
    text = latex(ReportTable("w", "Wide", (Column("x"),) * 7, (row,)))
    assert r"\resizebox{\linewidth}{!}{%" in text
    assert text.count("{") == text.count("}")


def test_csv_gives_means_over_runs_in_three_columns() -> None:
    rows = list(csv.reader(io.StringIO(csv_text(SEEDS))))
    assert rows[0][2:] == ["mAP", "mAP sd", "mAP n", "p", "p sd", "p n", "verdict"]
    assert rows[1][2:] == ["0.5", "0.01", "3", "-0.001", "", "1", "x|y"]
    assert rows[4][2:] == ["0.3", "", "", "0.1", "", "", "[b]"]


def test_the_terminal_shows_words_with_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table_console().print(terminal(SEEDS))
    assert "[b]" in capsys.readouterr().out


def test_markdown_is_a_pipe_table() -> None:
    lines = markdown(TABLE).splitlines()
    assert lines[2:5] == ["| | mAP | rank distance |", "|---|---:|---:|", "| one_run | <u>0.5000</u> | 12.0 |"]
    assert lines[5].startswith(r"| two\|runs |")
    assert lines[6] == "| third | **0.6000** | – |"


def test_latex_escapes_what_it_would_read_as_markup() -> None:
    text = latex(TABLE)
    assert r"\caption{50\% of a\_b. A note.}" in text
    assert r"one\_run & \underline{0.5000} & 12.0 \\" in text
    assert text.count(r"\midrule") == 2
    assert text.count("{") == text.count("}")


def test_csv_keeps_full_precision_and_leaves_absent_figures_empty() -> None:
    rows = list(csv.reader(io.StringIO(csv_text(TABLE))))
    assert rows[0] == ["label", "source", "mAP", "rank distance"]
    assert rows[1] == ["one_run", "measured", "0.50001", "12.0"]
    assert rows[3] == ["third", "measured", "0.6", ""]
    assert rows[4][1] == "published"


def test_the_terminal_shows_names_with_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = ReportTable(
        "s", "of [/a]", (Column("[b]"),), (Row("run[bold]", (0.5,)), Row(r"run\[", (0.6,))), "a [/note]"
    )
    table_console().print(terminal(table))
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("of [/a]", "[b]", "run[bold]", "run\\[", "a [/note]", " 0.6000 "))
