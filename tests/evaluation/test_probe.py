"""The linear probe against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

from hybatch.evaluation.probe import ProbeTask, fit, score_probe
from hybatch.evaluation.settings.per_query import QueryTables
from tests.evaluation.synthetic import MemoryEmbeddings


def _blobs(seed: int, count: int = 300, classes: int = 5, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, width))
    labels = rng.integers(0, classes, count)
    rows = centres[labels] + rng.standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def test_weights_and_predictions_are_scikit_learns() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rows, labels = _blobs(0)
    weight, bias = fit(rows, labels, 5)
    oracle = linear.LogisticRegression(C=1.0, tol=1e-10, max_iter=10000).fit(rows.astype(np.float64), labels)
    np.testing.assert_allclose(weight, oracle.coef_, atol=2e-3)
    np.testing.assert_allclose(bias - bias.mean(), oracle.intercept_ - oracle.intercept_.mean(), atol=2e-3)
    tested, _ = _blobs(1)
    assert ((tested @ weight.T + bias).argmax(1) == oracle.predict(tested.astype(np.float64))).mean() > 0.99


def test_accuracy_is_the_share_of_right_names_and_unknown_names_are_errors() -> None:
    rows, labels = _blobs(0)
    tested, truth = _blobs(1)
    names = [f"class {label}" for label in labels]
    asked = [f"class {label}" if i % 10 else "never seen" for i, label in enumerate(truth)]
    texts = [str(i) for i in range(300)]
    task = ProbeTask("probe", ("xx",), {"xx": texts}, {"en": texts}, {"xx": asked}, {"en": names})
    per_query: QueryTables = {}
    embeddings = MemoryEmbeddings({"xx": tested}, {"en": rows})
    found = score_probe(embeddings, task, model="", per_query=per_query)["figures"]["xx"]
    weight, bias = fit(rows, labels, 5)
    right = ((tested @ weight.T + bias).argmax(1) == truth) & (np.arange(300) % 10 > 0)
    assert found == {"accuracy": pytest.approx(right.mean()), "num_queries": 300}
    assert 0.5 < right.mean() < 0.9
    np.testing.assert_array_equal(per_query["accuracy/xx"], right)
