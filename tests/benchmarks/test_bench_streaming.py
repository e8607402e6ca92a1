"""The streaming benchmark on small files: bounded memory, the counts of one pass, and a check that can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.bench_streaming import GROUPS, Problem, Stream, check, make_questions, stored_candidates
from hybatch.ops import rank_counts

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_streaming.py"


@pytest.mark.slow
def test_a_file_larger_than_the_memory_it_takes_is_counted_right(tmp_path: Path) -> None:
    """150,000 x 384 in float32 are 220 MiB; a block of 4,096 rows is 6 MiB."""
    output = tmp_path / "figures.json"
    sizes = ["--candidates", "150000", "--queries", "20", "--width", "384", "--dtype", "float32", "--block", "4096"]
    command = [sys.executable, str(SCRIPT), *sizes, "--folder", str(tmp_path), "--json", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    figures = json.loads(output.read_text(encoding="utf-8"))
    assert figures["anonymous_bytes"]["growth"] < figures["file_bytes"] / 2
    assert figures["check"]["wrong"] == 0
    assert figures["check"]["candidates_above"] > 1000 > figures["check"]["undecided"]


def test_the_stream_counts_as_one_pass_and_its_check_finds_a_wrong_count(tmp_path: Path) -> None:
    problem = Problem(candidates=2050, queries=10, width=16, dtype="float16", block=100)
    path = stored_candidates(problem, tmp_path)
    candidates = np.load(path, mmap_mode="r")
    homes, checked = problem.blocks()[5:7], problem.blocks()[-1:]
    questions = make_questions(problem, candidates, homes)
    stream = Stream(problem, candidates, questions, "torch")
    added = stream.run(homes, checked)
    arrays = (questions.queries, np.array(candidates), problem.groups(slice(0, 2050)), questions.positive_index)
    one_pass = rank_counts(*map(torch.from_numpy, (*arrays, questions.offsets)), GROUPS, backend="torch")
    assert torch.equal(stream.counter.finish().greater, one_pass.greater)
    assert check(problem, candidates, questions, added)["wrong"] == 0
    for one in added:
        one.counts[0, 3, 0] += 50
        assert check(problem, candidates, questions, [one])["wrong"] == 1


def test_the_file_is_made_once(tmp_path: Path) -> None:
    problem = Problem(candidates=300, queries=1, width=8, dtype="float32", block=100)
    path = stored_candidates(problem, tmp_path)
    made = path.stat().st_mtime_ns
    assert stored_candidates(problem, tmp_path) == path
    assert path.stat().st_mtime_ns == made
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    np.testing.assert_allclose(np.linalg.norm(np.load(path), axis=1), 1, atol=1e-6)
