"""Metrics of retrieved passages against trec_eval and ranx."""

from __future__ import annotations

import numpy as np
import pytest

from hybatch.evaluation.collection.metrics import per_query
from tests.evaluation.collection.fakes import fake, query_set, trec_figures


@pytest.mark.parametrize("seed", range(4))
def test_every_metric_is_trec_evals(seed: int) -> None:
    pytest.importorskip("pytrec_eval")
    data = fake(seed=seed)
    names = list(data.passages)
    rng = np.random.default_rng(seed)
    ranked = np.stack([rng.permutation(len(names))[:40] for _ in data.queries])
    run = {q: {names[d]: float(-r) for r, d in enumerate(row)} for q, row in zip(data.queries, ranked, strict=True)}
    measures = {"ndcg_cut.10", "recall.20", "map_cut.20", "recip_rank"}
    expected = trec_figures(data, run, measures)
    relevant = query_set(data).relevant
    for ours, theirs in (
        ("ndcg@10", "ndcg_cut_10"),
        ("recall@20", "recall_20"),
        ("map@20", "map_cut_20"),
        ("mrr@40", "recip_rank"),
    ):
        assert np.mean(per_query(ours, ranked, relevant)) == pytest.approx(expected[theirs], abs=1e-12), ours


def test_reciprocal_ranks_beyond_the_cutoff_count_nothing() -> None:
    ranked = np.array([[5, 6, 7], [7, 6, 5], [6, -1, -1]])
    np.testing.assert_array_equal(per_query("mrr@2", ranked, [{7: 1}, {7: 1}, {7: 1}]), [0.0, 1.0, 0.0])


def test_queries_without_a_relevant_passage_are_left_out() -> None:
    np.testing.assert_array_equal(per_query("recall@1", np.array([[1], [2]]), [{}, {2: 1}]), [np.nan, 1.0])
