"""Which indexes go to GPUs; that they find the same there is for a machine that has some."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.collection import search as search_module
from hybatch.evaluation.collection.gpus import gpus_for, over_gpus
from hybatch.evaluation.collection.search import BUILDERS, search
from hybatch.evaluation.collection.shards import EncodedPassages
from hybatch.evaluation.mining.nearest import Rows
from tests.evaluation.collection.fakes import CollectionEncoder, fake, fake_passages


def _faiss(gpus: int, *, built: bool = True) -> Any:
    return SimpleNamespace(get_num_gpus=lambda: gpus, **({"StandardGpuResources": object} if built else {}))


@pytest.mark.parametrize(
    ("method", "device", "gpus", "expected"),
    [
        ("faiss-flat", "auto", 8, 8),
        ("faiss-ivf-pq", "gpu", 2, 2),
        ("faiss-flat", "auto", 0, 0),
        ("faiss-flat", "cpu", 8, 0),
        ("faiss-hnsw", "auto", 8, 0),
    ],
)
def test_all_gpus_that_faiss_sees_are_taken_where_the_index_can_use_them(
    method: str, device: str, gpus: int, expected: int
) -> None:
    assert gpus_for(_faiss(gpus), method, device) == expected


@pytest.mark.parametrize(
    ("faiss", "method", "message"),
    [
        (_faiss(0), "faiss-flat", "faiss sees no GPU on this machine"),
        (_faiss(0, built=False), "faiss-flat", r"CPUs alone.*hybatch\[search-gpu\]"),
        (_faiss(4), "faiss-hnsw", "no form for GPUs in faiss; take faiss-flat or faiss-ivf-pq"),
    ],
)
def test_gpus_that_are_insisted_upon_and_missing_are_an_error(faiss: Any, method: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        gpus_for(faiss, method, "gpu")


def test_the_faiss_of_cpus_is_told_from_one_without_gpus() -> None:
    faiss = pytest.importorskip("faiss")
    if faiss.get_num_gpus():
        pytest.skip("this machine has GPUs that faiss sees")
    with pytest.raises(UserError, match="--search-device gpu: "):
        gpus_for(faiss, "faiss-flat", "gpu")


@pytest.mark.parametrize(("kind", "half"), [("flat", False), ("ivf-pq", True)])
def test_an_index_is_sharded_not_copied_and_a_flat_one_stays_exact(kind: str, half: bool) -> None:
    class Inverted:
        pass

    asked: list[Any] = []
    faiss = SimpleNamespace(
        IndexIVFPQ=Inverted,
        GpuMultipleClonerOptions=SimpleNamespace,
        index_cpu_to_all_gpus=lambda index, co, ngpu: asked.append((co.shard, co.useFloat16, ngpu)) or "moved",
    )
    assert over_gpus(faiss, Inverted() if kind == "ivf-pq" else object(), 3) == "moved"
    assert asked == [(True, half, 3)]


@pytest.mark.parametrize("method", ["faiss-flat", "faiss-ivf-pq"])
def test_an_index_is_moved_once_and_filled_as_faiss_allows(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flat index that is sharded takes vectors in one call alone; this one comes in several shards."""
    pytest.importorskip("faiss")
    passages = fake_passages(tmp_path, fake(num_passages=600), shard_rows=256)
    encoded = EncodedPassages(CollectionEncoder(), passages, tmp_path, batch_size=64, progress=False)  # type: ignore[arg-type]
    moved: list[int] = []
    monkeypatch.setattr(search_module, "gpus_for", lambda *_: 2)
    monkeypatch.setattr(search_module, "over_gpus", lambda _, index, count: moved.append(index.ntotal) or index)
    scores, found = search(method, encoded.rows(np.array([7])), encoded, passages, 5, "cpu")
    assert moved == [600 if method == "faiss-flat" else 0]
    assert found.shape == scores.shape == (1, 5)


@pytest.mark.parametrize(("width", "codes"), [(768, 96), (1024, 64), (384, 96), (64, 16), (10, 2), (7, 1)])
def test_codes_on_gpus_are_of_the_sizes_that_faiss_has_kernels_for(width: int, codes: int) -> None:
    faiss = pytest.importorskip("faiss")
    rows = Rows(np.random.default_rng(0).normal(size=(300, width)).astype(np.float32))
    index = BUILDERS["faiss-ivf-pq"](faiss, rows, rows, True)
    assert (index.pq.M, index.pq.nbits) == (codes, 8)


@pytest.mark.gpu
@pytest.mark.parametrize(("method", "least"), [("faiss-flat", 1.0), ("faiss-ivf-pq", 0.7)])
def test_gpus_find_what_the_cpu_finds(method: str, least: float, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    if not faiss.get_num_gpus():
        pytest.skip("needs faiss-gpu and a GPU")
    passages = fake_passages(tmp_path, fake(num_passages=900), shard_rows=350)
    encoded = EncodedPassages(CollectionEncoder(32), passages, tmp_path, batch_size=64, progress=False)  # type: ignore[arg-type]
    queries = encoded.rows(np.arange(0, 900, 45))
    _, exact = search("torch", queries, encoded, passages, 10, "cpu")
    _, found = search(method, queries, encoded, passages, 10, "cpu", "gpu")
    assert np.mean((found == exact[:, :1]).any(axis=1)) >= least
