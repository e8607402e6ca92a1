"""The streaming top k against a stable sort of all scores, and against faiss."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from hybatch.evaluation.collection.topk import TopK


def _rows(count: int, seed: int, *, integers: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.integers(-2, 3, (count, 6)) if integers else rng.standard_normal((count, 6))).astype(np.float32)


@pytest.mark.parametrize("integers", [True, False], ids=["ties", "no ties"])
@pytest.mark.parametrize("cuts", [[0, 50], [0, 1, 7, 30, 50], [*range(0, 51, 5)]], ids=str)
def test_it_is_a_stable_descending_sort_however_the_passages_are_cut(cuts: list[int], integers: bool) -> None:
    queries, passages = _rows(9, 1, integers=integers), _rows(50, 2, integers=integers)
    best = TopK(torch.from_numpy(queries), 12)
    for start, stop in reversed(list(itertools.pairwise(cuts))):
        best.add(torch.from_numpy(passages[start:stop]), start)
    scores, found = best.result()
    exact = queries @ passages.T
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :12]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, expected, 1), atol=1e-6)


def test_shares_of_several_processes_join_to_the_whole() -> None:
    queries, passages = _rows(5, 3, integers=True), _rows(40, 4, integers=True)
    whole, left, right = (TopK(torch.from_numpy(queries), 10) for _ in range(3))
    whole.add(torch.from_numpy(passages), 0)
    left.add(torch.from_numpy(passages[:13]), 0)
    right.add(torch.from_numpy(passages[13:]), 13)
    right.merge(left.keys())
    for found, expected in zip(right.result(), whole.result(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_is_lacking_is_marked() -> None:
    best = TopK(torch.eye(2), 3)
    best.add(torch.tensor([[1.0, -0.0], [0.0, -3.0]]), 0)
    scores, found = best.result()
    assert found.tolist() == [[0, 1, -1], [0, 1, -1]]
    assert scores.tolist() == [[1, 0, -np.inf], [0, -3, -np.inf]]


def test_faiss_finds_the_same() -> None:
    faiss = pytest.importorskip("faiss")
    queries, passages = _rows(20, 5, integers=False), _rows(300, 6, integers=False)
    index = faiss.IndexFlatIP(6)
    index.add(passages)
    expected_scores, expected = index.search(queries, 25)
    best = TopK(torch.from_numpy(queries), 25)
    best.add(torch.from_numpy(passages), 0)
    scores, found = best.result()
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
