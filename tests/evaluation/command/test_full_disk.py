"""A disk that is full while embeddings are written: the cause is said, and nothing half-written is left."""

from __future__ import annotations

import io
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hybatch.evaluation.embeddings import write_array
from tests.evaluation.collection.fakes import fake, write_beir

ROOT = Path(__file__).parents[3]
SENTENCES = ROOT / "tests" / "written_before" / "sentences"
LIMIT = 700
"""Bytes that a file may have: the manifest of an index, and no embeddings."""


def _evaluate_on_a_full_disk(*arguments: object) -> str:
    """What `hybatch evaluate` says where no file may be longer; in a process of its own, whose output is a pipe."""
    done = subprocess.run(
        [sys.executable, "-m", "hybatch", "evaluate", *map(str, arguments)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr


def test_saved_embeddings_say_why_they_cannot_be_written(model: Path, tmp_path: Path) -> None:
    arguments = ["--task", "tatoeba", "--data-dir", SENTENCES, "--model", model]
    said = _evaluate_on_a_full_disk(*arguments, "--save-embeddings", tmp_path / "saved")
    assert re.search(r"--save-embeddings .*saved: cannot be written \(File too large\)", said), said
    assert not list(tmp_path.iterdir())


def test_shards_say_why_they_cannot_be_written(model: Path, tmp_path: Path) -> None:
    data = write_beir(tmp_path / "data", fake())
    arguments = ["--task", "beir-like", "--data-dir", data, "--model", model]
    said = _evaluate_on_a_full_disk(*arguments, "--index", tmp_path / "index")
    assert re.search(r"cannot be written \(File too large\); choose another --index", said), said
    assert [path.name for path in (tmp_path / "index").rglob("*") if path.is_file()] == ["manifest.json"]


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (700, 33)])
def test_an_array_has_the_bytes_that_numpy_gives_it(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    ours, theirs = io.BytesIO(), io.BytesIO()
    write_array(ours, rows.T)
    np.save(theirs, rows.T)
    assert ours.getvalue() == theirs.getvalue()
