"""Every way to search finds the same passages; the approximate ones nearly so."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.collection.passages import Passages
from hybatch.evaluation.collection.search import BUILDERS, import_faiss, search
from hybatch.evaluation.collection.shards import EncodedPassages
from tests.evaluation.collection.fakes import CollectionEncoder, fake, fake_passages

K = 10


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> tuple[Passages, EncodedPassages]:
    folder = tmp_path_factory.mktemp("search")
    passages = fake_passages(folder, fake(num_passages=900), shard_rows=350)
    encoder = CollectionEncoder(32)
    return passages, EncodedPassages(encoder, passages, folder, batch_size=64, progress=False)  # type: ignore[arg-type]


def _queries(encoded: EncodedPassages) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = encoded.rows(np.arange(0, 900, 45)) + 0.02 * rng.standard_normal((20, 32)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_faiss_flat_and_the_projects_own_search_agree(collection: tuple[Passages, EncodedPassages]) -> None:
    pytest.importorskip("faiss")
    passages, encoded = collection
    queries = _queries(encoded)
    own_scores, own = search("torch", queries, encoded, passages, K, "cpu")
    scores, found = search("faiss-flat", queries, encoded, passages, K, "cpu")
    np.testing.assert_allclose(own_scores, scores, atol=1e-5)
    # Scores that differ by rounding alone may change places.
    gaps = np.abs(np.diff(scores, axis=1)).min(axis=1) > 1e-5
    assert gaps.sum() >= 10
    np.testing.assert_array_equal(own[gaps], found[gaps])


@pytest.mark.parametrize(("method", "least"), [("faiss-hnsw", 0.95), ("faiss-ivf-pq", 0.7)])
def test_approximate_indexes_mostly_find_the_best_passage(
    collection: tuple[Passages, EncodedPassages], method: str, least: float
) -> None:
    pytest.importorskip("faiss")
    passages, encoded = collection
    queries = _queries(encoded)
    _, exact = search("torch", queries, encoded, passages, K, "cpu")
    _, found = search(method, queries, encoded, passages, K, "cpu")
    assert np.mean((found == exact[:, :1]).any(axis=1)) >= least


@pytest.mark.parametrize("method", ["torch", *BUILDERS])
def test_a_collection_smaller_than_k_is_padded(tmp_path: Path, method: str) -> None:
    pytest.importorskip("faiss")
    passages = fake_passages(tmp_path, fake(num_passages=5))
    encoded = EncodedPassages(CollectionEncoder(), passages, tmp_path, batch_size=4, progress=False)  # type: ignore[arg-type]
    scores, found = search(method, encoded.rows(np.array([3])), encoded, passages, 8, "cpu")
    assert sorted(found[0].tolist()) == [-1, -1, -1, 0, 1, 2, 3, 4]
    assert np.isneginf(scores[0][found[0] < 0]).all()


def test_without_faiss_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"pip install 'hybatch\[search\]'"):
        import_faiss()
