"""`hybatch evaluate` leaves a heatmap beside its results."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.evaluation.catalogue.registry import load_task
from hybatch.reporting.evaluate import main
from tests.evaluation.synthetic import random_embeddings, write_embeddings, write_jsonl
from tests.evaluation.tasks.test_parallel import ROWS


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    write_jsonl(tmp_path / "corpus", ROWS)
    task = load_task("parallel", tmp_path / "corpus")
    folder = write_embeddings(tmp_path / "embeddings", *random_embeddings(task, 4))
    return ["--task", "parallel", "--data-dir", str(tmp_path / "corpus"), "--embeddings", str(folder)]


def test_results_timings_and_heatmap_stand_in_the_output_folder(arguments: list[str], tmp_path: Path) -> None:
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "results.json",
        "per_query.npz",
        "timings.json",
        "heatmap.png",
    }


def test_without_an_output_folder_nothing_is_written(arguments: list[str], tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if "hybatch-cache" not in path.parts}
    assert main(arguments) == 0
    assert {path for path in tmp_path.rglob("*") if "hybatch-cache" not in path.parts} == before
