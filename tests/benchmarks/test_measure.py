"""Timings are handed on after every round, and a benchmark that is stopped has written those down."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bench_contrastive
import bench_ranking
import processor
import pytest
import torch
import train_and_watch
from measure import Contender, gpu_key, interleaved, kernels, rate_cells, told_rate

CPU = torch.device("cpu")


class Stopped(Exception):
    """What ends a benchmark halfway."""


def stops_in_round(number: int) -> Callable[[], None]:
    """Work that is cut short in its so-manieth round, the first, untimed run not counted."""
    runs = iter(range(number))

    def run() -> None:
        if next(runs, None) is None:
            raise Stopped

    return run


def test_timings_so_far_are_handed_on_after_every_round() -> None:
    seen: list[list[int]] = []
    contenders = [Contender("one", lambda: None), Contender("other", lambda: None, "one", rounds=2)]
    timings = interleaved(contenders, 3, CPU, lambda so_far: seen.append([len(one.wall) for one in so_far]))
    assert seen == [[1, 1], [2, 2], [3, 2]]
    assert [len(one.wall) for one in timings] == [3, 2]


@pytest.mark.parametrize(
    ("benchmark", "options"),
    [
        (bench_contrastive, ["--sizes", "8", "--width", "4", "--what", "forward", "--processes", "0"]),
        (bench_ranking, ["--shapes", "tiny", "--widths", "4"]),
    ],
)
def test_a_benchmark_that_is_stopped_has_written_the_rounds_before(
    benchmark: Any, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contenders(*_: object, **__: object) -> Iterator[Contender]:
        yield Contender("floor", lambda: None)
        yield Contender("stopped", stops_in_round(3), "floor")

    path = tmp_path / "figures.json"
    monkeypatch.setattr(benchmark, "contenders", contenders)
    monkeypatch.setattr(processor, "peak_gflops", lambda _: 100.0)
    monkeypatch.setattr(bench_ranking, "SHAPES", {"tiny": next(iter(bench_ranking.SHAPES.values()))})
    monkeypatch.setattr(bench_ranking, "make_problem", lambda *_: Problem())
    monkeypatch.setattr(sys, "argv", ["", "--json", str(path), "--device", "cpu", "--rounds", "9", *options])
    with pytest.raises(Stopped):
        benchmark.main()
    figures = json.loads(path.read_text(encoding="utf-8"))
    assert figures["finished"] is False
    assert [(row["name"], row["rounds"]) for row in figures["rows"]] == [("floor", 2), ("stopped", 2)]


def test_a_rate_stands_beside_its_share_of_the_peak_where_both_are_known() -> None:
    row, machine = {"gflop": 60.0, "p50": 2.0}, {"peak_gflops": 40.0}
    assert rate_cells(row, machine) == ["30", "75%"]
    assert told_rate(row, machine) == "  30 GFLOP/s, 75% of peak"
    assert told_rate(row, {"peak_gflops": None}) == "  30 GFLOP/s"
    assert rate_cells({"gflop": None, "p50": 2.0}, machine) == ["", ""]
    assert told_rate({"gflop": None, "p50": 2.0}, machine) == ""


class Problem:
    """What the ranking benchmark reports of a problem; its contenders are stand-ins."""

    share = 0.03


@pytest.mark.parametrize(
    ("name", "key"), [("NVIDIA H200", "h200"), ("NVIDIA A100-SXM4-80GB", "a100sxm480gb"), ("Tesla T4", "teslat4")]
)
def test_a_gpus_results_are_named_after_it(name: str, key: str) -> None:
    assert gpu_key(name) == key


def test_the_kernels_of_work_are_those_of_one_run_after_another() -> None:
    runs: list[int] = []
    told = kernels(lambda: runs.append(1), CPU)
    assert len(runs) == 2
    assert told.endswith("0 us of them in 0 kernels and copies")


def test_a_profiled_training_writes_its_operators_by_what_started_and_what_ran_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(options: list[str]) -> int:
        torch.ones(3, 3).mm(torch.ones(3, 3))
        return len(options)

    monkeypatch.setattr(train_and_watch, "train", train)
    assert train_and_watch.profiled(["--one", "two"], tmp_path / "operators") == 2
    assert (tmp_path / "operators").read_text(encoding="utf-8").count("aten::mm") == 2
