"""Every figure of XQuAD-R and MLQA-R, from .npy files to results, against brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.embeddings import StoredEmbeddings
from hybatch.evaluation.settings.bias_metrics import BIAS_METRICS
from hybatch.evaluation.settings.per_query import QueryTables
from hybatch.evaluation.settings.scoring import score
from hybatch.evaluation.settings.task import RetrievalTask
from tests.evaluation.bias_oracle import oracle_pool, oracle_query
from tests.evaluation.oracle import largest_difference, oracle_results
from tests.evaluation.synthetic import random_embeddings, write_embeddings

pytestmark = [pytest.mark.data, pytest.mark.slow]


def _towards_positives(task: RetrievalTask, width: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Random unit rows, queries drawn towards their positives, so that ranks of all sizes occur."""
    queries, candidates = random_embeddings(task, width, seed=1)
    pool = np.concatenate([candidates[language] for language in task.languages])
    for language in task.languages:
        rows = queries[language]
        for i, positives in enumerate(task.positives[language]):
            rows[i] += pool[positives].sum(axis=0)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return queries, candidates


def _check_bias(
    tables: QueryTables, task: RetrievalTask, queries: dict[str, np.ndarray], candidates: dict[str, np.ndarray]
) -> None:
    """Every bias metric of five queries of each language, which is what brute force has time for."""
    pool, language_of = oracle_pool(candidates, task)
    for x in task.languages:
        for row in np.linspace(0, len(queries[x]) - 1, 5).astype(int):
            expected = oracle_query(queries[x][row], task.positives[x][row], x, pool, language_of, "en")
            found = {name: tables[f"{name}/{x}"][row] for name in BIAS_METRICS if name in expected}
            np.testing.assert_allclose(list(found.values()), [expected[name] for name in found], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["xquad-r", "mlqa-r"])
def test_all_settings_agree_on_random_embeddings(name: str, data_dir: Path, tmp_path: Path) -> None:
    task = load_task(name, data_dir)
    queries, candidates = _towards_positives(task, 24)
    tables: QueryTables = {}
    embeddings = StoredEmbeddings(write_embeddings(tmp_path, queries, candidates), task)
    found = score(embeddings, task, model="r", progress=False, per_query=tables)
    _check_bias(tables, task, queries, candidates)
    expected = oracle_results(queries, candidates, task)
    # Scores that the oracle's float64 tells apart may be equal in float32: a few ties in a thousand positives.
    tied, tied_in_float64 = (results["ties"].pop("positives_tied") for results in (found, expected))
    assert abs(tied - tied_in_float64) < 1e-3 * sum(len(row) for rows in task.positives.values() for row in rows)
    difference, where = largest_difference(found, expected)
    assert difference < 1e-4, where
    assert 0.02 < found["summary"]["multilingual"]["map"] < 0.98


def test_all_settings_agree_exactly_on_tied_embeddings(data_dir: Path, tmp_path: Path) -> None:
    task = load_task("mlqa-r", data_dir)  # XQuAD-R's ties take the oracle longer, and are of the same kinds
    queries, candidates = random_embeddings(task, 16, seed=2, integers=True)
    tables: QueryTables = {}
    embeddings = StoredEmbeddings(write_embeddings(tmp_path, queries, candidates), task)
    found = score(embeddings, task, model="t", progress=False, per_query=tables)
    _check_bias(tables, task, queries, candidates)
    # Nothing but the summation order of the means may differ.
    difference, where = largest_difference(found, oracle_results(queries, candidates, task))
    assert difference < 1e-9, where
    assert found["ties"]["positives_tied"] > 0.9 * sum(len(row) for rows in task.positives.values() for row in rows)
