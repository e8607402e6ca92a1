"""The records that the repository carries are those of its grids; the report reads them, the document tells them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from hybatch.reporting.grids.groups import Grid
from hybatch.reporting.grids.record_file import read_record_file
from hybatch.reporting.inputs import read_inputs
from hybatch.reporting.results import PairResults
from study.grid import read_grid

ROOT = Path(__file__).parent.parent.parent
GRIDS = ROOT / "study" / "grids"
DOCUMENT = ROOT / "docs" / "study.md"

KINDS = ("monolingual", "cross_lingual", "multilingual")
SAMPLERS = {
    "X-X-mono": "x-x-mono",
    "X-Y": "x-y",
    "hybrid": "hybrid",
    "hybrid, alpha .25": "hybrid-0.25",
    "hybrid, alpha .75": "hybrid-0.75",
    "sequential": "sequential",
    "scheduled": "hybrid-scheduled",
    "X-X": "x-x",
    "En-En": "en-en",
}


@cache
def _study(folder: str) -> Grid:
    grid = read_inputs([str(ROOT / "results" / folder)]).grid
    assert grid is not None
    return grid


def _rows(heading: str) -> Iterator[Sequence[str]]:
    """The cells of the first table below a heading of the document, without its own heading."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    _before, _rule, below = re.split(r"^([|]---.*\n)", section, maxsplit=1, flags=re.M)
    table = takewhile(lambda line: line.startswith("|"), below.splitlines())
    return ([cell.strip() for cell in line.strip("|").split("|")] for line in table)


def _check(label: str, cells: Sequence[str], figures: Sequence[float]) -> None:
    """Hold a row's cells to what was recorded, but for the rounding to three places, of rank distances to none."""
    for cell, figure in zip(cells, figures, strict=True):
        found = re.match(r"[*]*([\d.]+)", cell)
        assert found is not None, (label, cell)
        assert float(found.group(1)) == pytest.approx(figure, abs=0.5 if figure > 1 else 5.001e-4), (label, cell)


def test_every_run_of_the_grid_has_a_record_and_the_report_reads_them_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    runs = {run.name: run for run in _study("study").runs}
    assert set(runs) == {run.name for run in read_grid(GRIDS / "study.txt")}
    for run in runs.values():
        assert set(run.results) == {"xquad-r", "mlqa-r", "tatoeba"}, run.name
        shapes = {task: len(one.pairs) for task, one in run.results.items() if isinstance(one, PairResults)}
        assert shapes == {"xquad-r": 11, "mlqa-r": 7}, run.name
        assert set(run.questions) == set(shapes), run.name


def test_the_means_of_the_document_are_those_of_the_records() -> None:
    rows = list(_rows("Results"))
    assert len(rows) == 15
    for label, *cells in rows:
        start, sampling = label.split(" ", 1)
        prefix = f"{SAMPLERS[sampling]}--{start}--seed"
        runs = [run for run in _study("study").runs if run.name.startswith(prefix)]
        assert runs, label
        figures = [figure for task in ("xquad-r", "mlqa-r") for figure in _means([run.results[task] for run in runs])]
        _check(label, cells, figures)


def _means(results: Sequence[Any]) -> list[float]:
    maps = [[result.summary[kind]["map"] for result in results] for kind in KINDS]
    distances = [result.summary["multilingual"]["rank_distance"] for result in results]
    return [*map(fmean, maps), fmean(distances)]


def test_what_was_tried_from_scratch_stands_in_the_document_as_it_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    runs = {run.name: run for run in read_grid(GRIDS / "scratch-recipes.txt")}
    records = (ROOT / "results" / "scratch-recipes").glob("*.record.json")
    recorded = {run.name: run for run in map(read_record_file, records)}
    assert set(recorded) == set(runs)
    changes = {re.sub(r"^hybrid--scratch--map--|(--)?seed1$", "", name): name for name in runs}
    rows = list(_rows("What was tried"))
    assert {row[0].strip("`") for row in rows} == {change or "none" for change in changes}
    for change, _meaning, *cells in rows:
        name = changes["" if change == "none" else change.strip("`")]
        last = recorded[name].curve[-1]
        names = [*(f"{kind}/map" for kind in KINDS), "multilingual/rank_distance"]
        _check(change, cells, [last["validation"][name] for name in names])
