"""Queries that are documents too: left out as BEIR leaves them out, in what is retrieved and in exact ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.errors import UserError
from hybatch.evaluation.collection import own
from hybatch.evaluation.collection.evaluate import evaluate_collections
from hybatch.evaluation.collection.judgements import join
from hybatch.evaluation.collection.search import METHODS
from hybatch.evaluation.collection.task import CollectionTask
from hybatch.evaluation.command import evaluate
from hybatch.evaluation.task import ScoringOptions
from tests.evaluation.collection.fakes import CollectionEncoder, Fake, fake, fake_passages, trec_figures, write_beir

METRICS = ("ndcg@10", "recall@20", "mrr@61")


def _duplicates(seed: int = 0) -> Fake:
    """Of twelve queries nine are documents too, under their own ids and some word for word; none is judged."""
    data = fake(seed=seed)
    also = {query: text for place, (query, text) in enumerate(data.queries.items()) if place % 4}
    return data._replace(passages={**also, **data.passages})


def _evaluate(folder: Path, data: Fake, **options: Any) -> dict[str, Any]:
    passages = fake_passages(folder, data, shard_rows=16)
    queries = join(data.queries, data.grades, passages, folder / "qrels.tsv")
    task = CollectionTask("t", {"c": passages}, {"xx": ("c", queries)}, METRICS, depth=61)
    encoder: Any = CollectionEncoder()
    chosen = ScoringOptions(batch_size=8, index=folder / "index", progress=False, **options)
    return evaluate_collections(encoder, task, model="toy", options=chosen).results


def _expected(data: Fake, *, leave_out: bool) -> dict[str, float]:
    """By trec_eval on the ranking of all passages, from which BEIR's rule has taken the queries."""
    encoder: Any = CollectionEncoder()
    queries, passages = (
        encoder(encoder.tokenize(list(texts.values()), role)).detach().double().numpy()
        for texts, role in ((data.queries, "query"), (data.passages, "passage"))
    )
    run = {
        query: {d: float(row @ passage) for d, passage in zip(data.passages, passages, strict=True)}
        for query, row in zip(data.queries, queries, strict=True)
    }
    if leave_out:
        run = {query: {d: score for d, score in row.items() if d != query} for query, row in run.items()}
    found = trec_figures(data, run, {"ndcg_cut.10", "recall.20", "recip_rank", "map"})
    names = {"ndcg_cut_10": "ndcg@10", "recall_20": "recall@20", "recip_rank": "mrr@61", "map": "map"}
    return {names[name]: value for name, value in found.items()}


@pytest.mark.parametrize("rule", own.OWN_DOCUMENTS)
@pytest.mark.parametrize("method", ["torch", "faiss-flat"])
def test_figures_are_trec_evals_after_beirs_rule(tmp_path: Path, rule: own.OwnDocuments, method: str) -> None:
    pytest.importorskip("pytrec_eval")
    assert method in METHODS
    if method != "torch":
        pytest.importorskip("faiss")
    data = _duplicates()
    results = _evaluate(tmp_path, data, own_documents=rule, method=method)
    expected = _expected(data, leave_out=rule == "leave-out")
    assert {name: results["figures"]["xx"][name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert expected != _expected(data, leave_out=rule != "leave-out")
    out = 9 if rule == "leave-out" else 0
    assert results["own_documents"] == {"xx": {"left_out": out, "kept": 9 - out}}


def test_a_document_that_is_judged_relevant_to_the_query_of_its_id_counts(tmp_path: Path) -> None:
    data = fake(num_passages=30)
    numbered = Fake(
        {str(i): text for i, text in enumerate(data.passages.values())},
        {str(i): text for i, text in enumerate(data.queries.values())},
        {str(i): {str(i): 1, str(i + 12): 2} for i in range(len(data.queries))},
    )
    results = _evaluate(tmp_path, numbered)
    assert results["own_documents"] == {"xx": {"left_out": 0, "kept": 12}}
    kept = _evaluate(tmp_path, numbered, own_documents="keep")
    assert kept == results
    assert results["figures"]["xx"]["recall@20"] > 0


def test_where_no_id_is_of_both_kinds_results_say_nothing_of_it(tmp_path: Path) -> None:
    results = _evaluate(tmp_path, fake())
    assert "own_documents" not in results
    assert results == _evaluate(tmp_path, fake(), own_documents="keep")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ranks_are_those_of_sorting_the_other_passages(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 9))
    scores = data.draw(st.lists(st.lists(st.integers(-2, 2), min_size=size, max_size=size), min_size=1, max_size=4))
    own_Q = np.array([data.draw(st.integers(-1, size - 1)) for _ in scores])
    relevant = [
        dict.fromkeys(data.draw(st.sets(st.integers(0, size - 1).filter(lambda d, out=out: d != out))), 1)
        for out in own_Q.tolist()
    ]

    def places(row: list[int], without: int = -1) -> dict[int, int]:
        order = sorted((d for d in range(size) if d != without), key=lambda d: (-row[d], d))
        return {d: place for place, d in enumerate(order, 1)}

    counted = own.counted(relevant, own_Q)
    ranks_P = np.array(
        [places(row)[d] for row, ones in zip(scores, counted, strict=True) for d in ones], dtype=np.int64
    )
    offsets = np.cumsum([0, *map(len, counted)])
    expected = [
        places(row, out)[d] for row, ones, out in zip(scores, relevant, own_Q.tolist(), strict=True) for d in ones
    ]
    assert own.ranks_without(ranks_P, offsets, own_Q).tolist() == expected


def test_what_is_retrieved_is_as_deep_as_without_them_and_never_the_query() -> None:
    scores_QK = np.array([[4, 3, 2], [4, 3, 2], [4, -np.inf, -np.inf]], dtype=np.float32)
    found_QK = np.array([[7, 5, 3], [7, 5, 3], [7, -1, -1]])
    scores, found = own.without(np.array([5, -1, 7]), scores_QK, found_QK, 2)
    assert found.tolist() == [[7, 3], [7, 5], [-1, -1]]
    assert scores.tolist() == [[4, 2], [4, 3], [-np.inf, -np.inf]]


def test_the_command_says_how_many_were_left_out(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_beir(tmp_path / "data", _duplicates(seed=4))
    arguments = ["--task", "beir-like", "--data-dir", str(data), "--model", str(model), "--index", str(tmp_path / "i")]
    output = ["--output", str(tmp_path / "out")]
    outcome = evaluate([*arguments, *output, "--save-run", str(tmp_path / "run")])
    assert "passages with the id of the query asked: 9 left out, 0 kept" in capsys.readouterr().out
    assert outcome.results["own_documents"] == {"data": {"left_out": 9, "kept": 0}}
    run = [line.split() for line in (tmp_path / "run" / "data.trec").read_text().splitlines()]
    assert all(query != passage for query, _, passage, *_ in run)
    evaluate([*arguments, *output])
    with pytest.raises(UserError, match=r"own_documents .*--overwrite"):
        evaluate([*arguments, *output, "--own-documents", "keep"])
    assert evaluate([*arguments, "--own-documents", "keep"]).results["own_documents"]["data"]["kept"] == 9
