"""`hybatch report`: from folders to a page of tables and figures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.results import write_results
from hybatch.reporting.command import main
from hybatch.reporting.inputs import read_inputs
from tests.reporting.grids.synthetic import core, write_records
from tests.reporting.synthetic import make_results


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two training runs with an evaluation each, as their commands leave them."""
    for name, level in (("hybrid", 0.5), ("x-y", 0.4)):
        run = tmp_path / "runs" / name
        write_results(run / "mlqa-r", make_results(f"runs/{name}/final", level), {"seconds": 1.0})
        rows = [{"step": step, "loss": 1 / step, "kind": "x-y"} for step in range(1, 9)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "runs"


def test_a_report_holds_tables_and_figures_and_links_only_what_is_there(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report"
    assert main([str(runs / "hybrid"), str(runs / "x-y"), "--output", str(output)]) == 0
    page = (output / "report.md").read_text()
    linked = [part.split(")")[0] for part in page.split("](")[1:]]
    assert linked == [
        "heatmap-mlqa-r-hybrid-final.png",
        "heatmap-mlqa-r-x-y-final.png",
        "difference-mlqa-r-x-y-final-minus-hybrid-final.png",
        "curves-hybrid.png",
        "curves-x-y.png",
    ]
    assert {path.name for path in output.glob("*.png")} == set(linked)
    assert "| XLM-R hybrid (published) |" in page
    assert {path.suffix for path in (output / "tables").iterdir()} == {".csv", ".tex"}
    assert "hybrid/final" in capsys.readouterr().out


def test_labels_that_file_names_cannot_tell_apart_have_figures_of_their_own(runs: Path, tmp_path: Path) -> None:
    labels = {"e5": "hybrid", "e5+": "x-y"}
    arguments = [f"{label}={runs / run / 'mlqa-r'}" for label, run in labels.items()]
    assert main([*arguments, "--output", str(tmp_path / "both")]) == 0
    page = (tmp_path / "both" / "report.md").read_text()
    for argument, name in zip(arguments, ("heatmap-mlqa-r-e5", "heatmap-mlqa-r-e5-2"), strict=True):
        assert f"({name}.png)" in page
        assert main([argument, "--output", str(tmp_path / "alone")]) == 0
        alone = (tmp_path / "alone" / "heatmap-mlqa-r-e5.png").read_bytes()
        assert (tmp_path / "both" / f"{name}.png").read_bytes() == alone


def test_the_long_form_holds_every_figure(runs: Path, tmp_path: Path) -> None:
    main([str(runs / "hybrid"), "--output", str(tmp_path / "report")])
    with open(tmp_path / "report" / "all-figures.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    results = make_results("runs/hybrid/final", 0.5)
    found = {(r["query_language"], r["candidate_language"], r["metric"]): r["value"] for r in rows}
    assert len(found) == len(rows) == 7 * (7 * 7 + 8)
    assert float(found["de", "zh", "map"]) == results["pairs"]["de"]["zh"]["map"]
    assert float(found["zh", "all", "rank_distance"]) == results["multilingual"]["zh"]["rank_distance"]


def test_labels_are_given_or_the_ends_of_the_models_paths(runs: Path) -> None:
    inputs = read_inputs([f"mine={runs / 'hybrid'}", str(runs / "x-y" / "mlqa-r" / "results.json")])
    assert [one.label for one in inputs.measured] == ["mine", "x-y/final"]
    assert [curve.label for curve in inputs.curves] == ["mine"]


def test_results_that_would_be_called_the_same_carry_their_folders(tmp_path: Path) -> None:
    for name in ("before", "after"):
        write_results(tmp_path / name, make_results("model"), {})
    labels = [one.label for one in read_inputs([str(tmp_path / "before"), str(tmp_path / "after")]).measured]
    assert labels == ["model (before)", "model (after)"]


def test_a_path_without_results_or_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such"):
        read_inputs([str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match=r"neither a results\.json"):
        read_inputs([str(tmp_path)])


def test_a_broken_line_of_metrics_is_named(runs: Path) -> None:
    with open(runs / "hybrid" / "metrics.jsonl", "a") as file:
        file.write("{\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:9: malformed JSON"):
        read_inputs([str(runs / "hybrid")])


@pytest.mark.parametrize("step", ["null", '"1"', "1.5", "true", "[1]", "NaN", "1" + "0" * 400])
def test_a_step_of_metrics_that_is_no_whole_number_is_named(runs: Path, step: str) -> None:
    with open(runs / "hybrid" / "metrics.jsonl", "a") as file:
        file.write(f'{{"step": {step}, "kind": "x-y", "loss": 1.0}}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl:9: 'step' is .*; expected a whole number"):
        read_inputs([str(runs / "hybrid")])


def test_losses_that_are_no_numbers_leave_gaps_in_the_curves(runs: Path, tmp_path: Path) -> None:
    with open(runs / "hybrid" / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "kind": "x-y", "loss": NaN}\n{"step": 10, "kind": 3, "loss": "x"}\n{"kind": "x-y"}\n')
    assert main([str(runs / "hybrid" / "metrics.jsonl"), "--output", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "curves-hybrid.png").is_file()


def test_metrics_are_read_by_their_own_path_and_but_for_half_a_last_line(runs: Path) -> None:
    path = runs / "hybrid" / "metrics.jsonl"
    (whole,) = read_inputs([str(path)]).curves
    with open(path, "a") as file:
        file.write('{"step": 9, "lo')
    assert read_inputs([str(path)]).curves == (whole,)


def test_paths_of_results_are_expanded(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS", str(runs))
    assert [one.label for one in read_inputs(["mine=$RUNS/hybrid"]).measured] == ["mine"]
    with pytest.raises(UserError, match="the path of the result 'mine=' is empty"):
        read_inputs(["mine="])


def test_an_output_that_is_a_file_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        main([str(tmp_path / "nowhere"), "--output", str(tmp_path / "file")])


def test_the_tables_of_a_grid_come_before_those_of_plain_results(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = write_records(tmp_path / "grid", core(seeds=(1, 2)))
    output = tmp_path / "report"
    assert main([str(grid), str(runs / "hybrid"), "--output", str(output)]) == 0
    page = (output / "report.md").read_text()
    headings = [line[4:] for line in page.splitlines() if line.startswith("### ")]
    assert headings[0].startswith("The claim")
    assert headings.index("Runs of the trial") > headings.index(
        "mlqa-r: mAP in every kind of setting and rank distance"
    )
    assert page.count("| x-y--mini-xlmr--seed") == 2
    assert "| all runs | hybatch 1, torch 2 |" in page
    assert {"trial-1-summary.csv", "trial-1-summary.tex", "mlqa-r-summary.csv"} <= {
        path.name for path in (output / "tables").iterdir()
    }
    assert {path.name for path in output.glob("heatmap-*.png")} == {"heatmap-mlqa-r-final.png"}
    with open(output / "all-figures.csv", newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} > {"x-y--mini-xlmr--seed2", "final"}
    assert "Table 1" in capsys.readouterr().out


def test_records_are_read_once_whole_and_without_a_label(tmp_path: Path) -> None:
    grid = write_records(tmp_path / "grid", core(seeds=(1,)))
    (grid / ".x-y--mini-xlmr--seed2.partial-1").mkdir()  # another process is writing a record
    (grid / ".x-y--mini-xlmr--seed2.partial-1" / "study.json").write_text("{")
    inputs = read_inputs([str(grid), str(grid / "x-y--mini-xlmr--seed1")])
    assert inputs.grid is not None
    assert len(inputs.grid.runs) == 3
    assert (inputs.measured, inputs.by_language, inputs.curves) == ((), (), ())
    with pytest.raises(UserError, match="leave out the label 'mine'"):
        read_inputs([f"mine={grid}"])
