"""The contrastive benchmark writes its figures, table and plot, of contenders that compute what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from contrastive_contenders import (
    BOTH,
    FORWARD,
    LIGER,
    MINI_BATCHED,
    SYMMETRIC,
    TEMPERATURE,
    make_problem,
    mini_batched,
)

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_contrastive.py"


def _run(path: Path, *options: str) -> dict[str, Any]:
    sizes = ["--sizes", "64", "--width", "8", "--rounds", "1", "--device", "cpu"]
    command = [sys.executable, str(SCRIPT), "--json", str(path), *sizes, *options]
    subprocess.run(command, check=True, cwd=SCRIPT.parents[1])
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_contender_is_timed_against_the_products_or_its_absence_explained(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    work = [FORWARD, BOTH, SYMMETRIC]
    found = _run(path, "--processes", "0", "--dimensions", "8", "2", "--what", *work)
    for what in work:
        names = [row["name"] for row in found["rows"] if row["what"] == what]
        streaming = "hybatch torch (streaming)"
        nested = {f"{streaming}, dimensions 8 + 2", f"{streaming}, rows of width 8 + 2"}
        assert {"dense PyTorch", streaming, MINI_BATCHED, *nested} < set(names)
        assert {"hybatch cpu", "hybatch blas"} <= {*names, *(one["name"] for one in found["left_out"])}
    assert all(row["ratio"] > 0 for row in found["rows"] if "product" not in row["name"])
    assert {"name": LIGER, "reason": "its kernels need a GPU"} in found["left_out"]
    table = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "| 64 | forward | dense PyTorch |" in table
    assert f"| {LIGER} | not run: its kernels need a GPU |" in table
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1
    assert path.with_suffix(".png").stat().st_size > 0


@pytest.mark.slow
def test_the_ring_is_timed_against_gathering_all_over_processes(tmp_path: Path) -> None:
    found = _run(tmp_path / "figures.json", "--what", BOTH, "--only", "none but the floors")
    rows = {row["name"]: row for row in found["rows"] if row["what"] == f"{BOTH}, 2 processes"}
    for gather in ("all", "ring"):
        assert rows[f"hybatch, gather {gather}, 2 CPU processes on gloo"]["ratio"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("what", [BOTH, SYMMETRIC])
def test_the_mini_batched_contender_computes_what_sentence_transformers_does(what: str) -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    problem = make_problem(300, 8, torch.device("cpu"), torch.float32)
    value = mini_batched(problem, what)()
    assert problem.queries.grad is not None
    assert problem.candidates.grad is not None
    gradients = [problem.queries.grad.clone(), problem.candidates.grad.clone()]
    directions = ("query_to_doc", "doc_to_query") if what == SYMMETRIC else ("query_to_doc",)
    options = {"scale": 1 / TEMPERATURE, "mini_batch_size": 256, "directions": directions}
    theirs = losses.CachedMultipleNegativesRankingLoss(
        torch.nn.Sequential(torch.nn.Identity()), partition_mode="per_direction", **options
    )
    problem.queries.grad = problem.candidates.grad = None
    expected = theirs.calculate_loss([[problem.queries], [problem.candidates]], with_backward=True)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradients, [problem.queries.grad, problem.candidates.grad])
