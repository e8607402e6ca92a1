"""A disk that is full while embeddings are written: the cause is said, and nothing half-written is left."""

from __future__ import annotations

import io
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.command import evaluate
from hybatch.evaluation.embeddings import write_array
from tests.evaluation.collection.fakes import fake, write_beir

SENTENCES = Path(__file__).parents[2] / "written_before" / "sentences"


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files may have 700 bytes: the manifest of an index, and no embeddings."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_saved_embeddings_say_why_they_cannot_be_written(model: Path, tmp_path: Path, small_files: None) -> None:
    arguments = ["--task", "tatoeba", "--data-dir", str(SENTENCES), "--model", str(model)]
    with pytest.raises(UserError, match=r"--save-embeddings .*saved: cannot be written \(File too large\)"):
        evaluate([*arguments, "--save-embeddings", str(tmp_path / "saved")])
    assert not list(tmp_path.iterdir())


def test_shards_say_why_they_cannot_be_written(model: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data = write_beir(tmp_path / "data", fake())
    request.getfixturevalue("small_files")
    arguments = ["--task", "beir-like", "--data-dir", str(data), "--model", str(model)]
    with pytest.raises(UserError, match=r"cannot be written \(File too large\); choose another --index"):
        evaluate([*arguments, "--index", str(tmp_path / "index")])
    assert [path.name for path in (tmp_path / "index").rglob("*") if path.is_file()] == ["manifest.json"]


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (700, 33)])
def test_an_array_has_the_bytes_that_numpy_gives_it(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    ours, theirs = io.BytesIO(), io.BytesIO()
    write_array(ours, rows.T)
    np.save(theirs, rows.T)
    assert ours.getvalue() == theirs.getvalue()
