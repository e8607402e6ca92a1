"""Accuracy of translation retrieval against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hybatch.evaluation.bitext import BitextTask, first_on_diagonal, ratio_margins, score_bitext
from hybatch.evaluation.settings.per_query import QueryTables
from tests.evaluation.synthetic import MemoryEmbeddings


def _oracle_margins(scores: np.ndarray, k: int) -> np.ndarray:
    margins = np.empty_like(scores)
    for i, row in enumerate(scores):
        for j, score in enumerate(row):
            near_i = sorted(row, reverse=True)[:k]
            near_j = sorted(scores[:, j], reverse=True)[:k]
            margins[i, j] = score / (sum(near_i) / (2 * len(near_i)) + sum(near_j) / (2 * len(near_j)))
    return margins


def _oracle_accuracy(scores: np.ndarray) -> float:
    return float(np.mean([int(np.argmax(row)) == i for i, row in enumerate(scores)]))


@pytest.mark.parametrize("count", [1, 3, 40])
def test_margins_and_both_directions_agree_with_loops(count: int) -> None:
    rng = np.random.default_rng(count)
    sides = rng.standard_normal((2, count, 8)) + 1.5 * rng.standard_normal((count, 8))
    sentences, translations = (sides / np.linalg.norm(sides, axis=2, keepdims=True)).astype(np.float32)
    names = [str(i) for i in range(count)]
    task = BitextTask("bitext", ("xx",), {"xx": names}, {"xx": names})
    embeddings = MemoryEmbeddings({"xx": sentences}, {"xx": translations})
    per_query: QueryTables = {}
    figures = score_bitext(embeddings, task, model="", per_query=per_query)["figures"]["xx"]
    scores = sentences.astype(np.float64) @ translations.T.astype(np.float64)
    margins = _oracle_margins(scores, 4)
    np.testing.assert_allclose(ratio_margins(torch.from_numpy(scores)).numpy(), margins, rtol=1e-12)
    assert figures == {
        "accuracy_to_pivot": _oracle_accuracy(scores),
        "accuracy_from_pivot": _oracle_accuracy(scores.T),
        "margin_accuracy_to_pivot": _oracle_accuracy(margins),
        "margin_accuracy_from_pivot": _oracle_accuracy(margins.T),
        "num_queries": count,
    }
    assert per_query["ids/xx"].tolist() == [f"xx/{line}" for line in range(count)]
    found = [float(int(np.argmax(row)) == line) for line, row in enumerate(margins)]
    np.testing.assert_array_equal(per_query["margin_accuracy_to_pivot/xx"], found)


def test_a_hub_that_is_near_to_all_is_outdone_by_the_margin() -> None:
    scores = torch.tensor([[0.60, 0.10, 0.65], [0.10, 0.60, 0.65], [0.10, 0.10, 0.70]])
    np.testing.assert_array_equal(first_on_diagonal(scores), [0, 0, 1])
    np.testing.assert_array_equal(first_on_diagonal(ratio_margins(scores, 2)), [1, 1, 1])


def test_equal_scores_go_to_the_earlier_line() -> None:
    np.testing.assert_array_equal(first_on_diagonal(torch.zeros(4, 4)), [1, 0, 0, 0])
