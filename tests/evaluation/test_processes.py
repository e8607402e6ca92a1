"""The same results, byte for byte, whatever the number of processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.encoding.encode import encode_distinct
from hybatch.evaluation.results import dump
from hybatch.evaluation.settings.scoring import evaluate_encoder, score
from tests.evaluation.synthetic import MemoryEmbeddings, ToyEncoder, random_embeddings, synthetic_task
from tests.processes import run_processes


def _results() -> tuple[str, str]:
    """Dumps of ready embeddings of four languages, and of an encoder on three."""
    task = synthetic_task(5, ("aa", "bb", "cc", "en"))
    stored = score(MemoryEmbeddings(*random_embeddings(task, 16)), task, model="random", progress=False)
    encoder: Any = ToyEncoder()
    encoded = evaluate_encoder(encoder, synthetic_task(6), model="toy", batch_size=3, progress=False)
    return dump(stored), dump(encoded)


def _rows(count: int) -> tuple[bytes, int]:
    encoder: Any = ToyEncoder()
    texts = [f"text {'x' * (count - i)}" for i in range(count)]
    return encode_distinct(encoder, texts, "passage", batch_size=4, progress=False).tobytes(), encoder.forwards


def _all() -> tuple[tuple[str, str], list[tuple[bytes, int]]]:
    return _results(), [_rows(count) for count in (2, 17)]


def _odd_pools() -> tuple[list[str], str]:
    """Dumps where a process has no candidate, and where languages are cut; and what is said of an overflow."""
    dumps = []
    for most in (2, 30):
        task = synthetic_task(7, ("aa",) if most == 2 else ("aa", "bb", "cc"), most)
        embeddings = MemoryEmbeddings(*random_embeddings(task, 4))
        dumps.append(dump(score(embeddings, task, model="odd", progress=False)))
    # A candidate that is no positive of "aa", in the last process's share: no other process sees the overflow.
    last = task.num_candidates - 1
    task.positives["aa"] = [[p for p in row if p != last] for row in task.positives["aa"]]
    queries, candidates = random_embeddings(task, 4)
    candidates["cc"][-1] *= 1e38
    queries["aa"] *= 1e10
    with pytest.raises(UserError) as caught:
        score(MemoryEmbeddings(queries, candidates), task, model="", progress=False)
    return dumps, str(caught.value)


@pytest.mark.slow
def test_shares_may_be_empty_and_what_one_process_finds_wrong_all_report() -> None:
    [(alone, _)] = run_processes(_odd_pools, 1)
    together = run_processes(_odd_pools, 3)
    assert [dumps for dumps, _ in together] == [alone] * 3
    [message] = {said for _, said in together}
    assert "may overflow float32" in message


def test_results_and_embeddings_are_the_same_bytes_and_the_encoder_runs_equally_often() -> None:
    [(alone, rows_alone)] = run_processes(_all, 1)
    together = run_processes(_all, 2)
    assert [results for results, _ in together] == [alone, alone]
    for (embeddings, _), *dealt in zip(rows_alone, *(rows for _, rows in together), strict=True):
        assert [theirs for theirs, _ in dealt] == [embeddings, embeddings]
        assert dealt[0][1] == dealt[1][1]
    assert np.frombuffer(rows_alone[1][0], dtype=np.float32).reshape(17, 8).any(axis=1).all()


@pytest.mark.slow
def test_a_launch_of_two_processes_writes_the_bytes_of_one(data: Path, model: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "--task", "parallel", "--data-dir", str(data), "--model", str(model), "--batch-size", "4"]
    # Without a GPU in sight this is accelerate's way to start several processes on the CPU; MULTI_CPU needs MPI.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "-m", "hybatch"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for name, start in (("1", ["-m", "hybatch"]), ("2", launch)):
        done = subprocess.run(
            [sys.executable, *start, *arguments, "--output", tmp_path / name],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("query language") == 1
        assert f'"processes": {name}' in (tmp_path / name / "timings.json").read_text()
        assert (tmp_path / name / "heatmap.png").exists()
    assert (tmp_path / "1" / "results.json").read_bytes() == (tmp_path / "2" / "results.json").read_bytes()
