"""An evaluation that is killed, not interrupted, goes on where it was and ends in the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hybatch.evaluation.collection.evaluate import evaluate_collections
from hybatch.evaluation.collection.task import CollectionTask
from hybatch.evaluation.results import dump
from hybatch.evaluation.task import ScoringOptions
from tests.evaluation.collection.fakes import CollectionEncoder, fake, fake_passages, query_set

DATA = fake(num_passages=200)


class SlowEncoder(CollectionEncoder):
    """Takes its time, so that a kill finds it at work."""

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        time.sleep(0.02)
        return super().forward(features)


def _evaluate(folder: Path, encoder: Any) -> tuple[str, int]:
    passages = fake_passages(folder, DATA, shard_rows=20)
    task = CollectionTask("t", {"c": passages}, {"xx": ("c", query_set(DATA))}, ("ndcg@10",))
    options = ScoringOptions(batch_size=4, index=folder / "index", progress=False)
    results, timings = evaluate_collections(encoder, task, model="m", options=options)
    return dump(results), timings["passages_encoded"]


def _evaluate_slowly(folder: Path) -> None:
    torch.set_num_threads(1)
    _evaluate(folder, SlowEncoder())


@pytest.mark.slow
def test_nothing_is_encoded_twice_after_a_kill(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_evaluate_slowly, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("index/t/*/*.npy"))) < 3:
        assert time.monotonic() < deadline
        assert process.is_alive()
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    left = len(list(tmp_path.glob("index/t/*/*.npy")))
    assert 3 <= left < 10
    resumed, encoded = _evaluate(tmp_path, CollectionEncoder())
    assert encoded == 200 - 20 * left
    whole, _ = _evaluate(tmp_path / "whole", CollectionEncoder())
    assert resumed == whole
