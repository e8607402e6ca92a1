"""Whole evaluations of a collection against trec_eval on the ranking of all passages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybatch.evaluation.collection.evaluate import evaluate_collections
from hybatch.evaluation.collection.passages import Passages, json_lines
from hybatch.evaluation.collection.task import CollectionTask
from hybatch.evaluation.results import dump
from hybatch.evaluation.settings.per_query import QueryTables
from hybatch.evaluation.task import ScoringOptions
from tests.evaluation.collection.fakes import (
    CollectionEncoder,
    Fake,
    fake,
    fake_passages,
    query_set,
    trec_figures,
    write_lines,
)
from tests.processes import run_processes

METRICS = ("ndcg@10", "recall@20", "mrr@60")


def _task(folder: Path, data: dict[str, Fake]) -> CollectionTask:
    collections = {name: fake_passages(folder / name, one, shard_rows=16) for name, one in data.items()}
    searches = {name: (name, query_set(one)) for name, one in data.items()}
    return CollectionTask("fake", collections, searches, METRICS, depth=60)


def _evaluate(task: CollectionTask, folder: Path, **options: Any) -> dict[str, Any]:
    encoder: Any = CollectionEncoder()
    chosen = ScoringOptions(batch_size=8, index=folder, progress=False, **options)
    return evaluate_collections(encoder, task, model="toy", options=chosen)[0]


def _full_ranking(data: Fake) -> dict[str, dict[str, float]]:
    encoder: Any = CollectionEncoder()
    queries, passages = (
        encoder(encoder.tokenize(list(texts.values()), role)).detach().double().numpy()
        for texts, role in ((data.queries, "query"), (data.passages, "passage"))
    )
    scores = queries @ passages.T
    names = list(data.passages)
    return {q: dict(zip(names, row.tolist(), strict=True)) for q, row in zip(data.queries, scores, strict=True)}


def test_figures_are_trec_evals_on_the_full_ranking(tmp_path: Path) -> None:
    pytest.importorskip("pytrec_eval")
    data = {"aa": fake(), "bb": fake(num_passages=45, seed=1)}
    results = _evaluate(_task(tmp_path, data), tmp_path)
    for language, one in data.items():
        expected = trec_figures(one, _full_ranking(one), {"ndcg_cut.10", "recall.20", "recip_rank", "map"})
        found = results["figures"][language]
        for ours, theirs in (("ndcg@10", "ndcg_cut_10"), ("recall@20", "recall_20"), ("map", "map")):
            assert found[ours] == pytest.approx(expected[theirs], abs=1e-12), (language, ours)
        assert found["mrr@60"] == pytest.approx(expected["recip_rank"], abs=1e-12)
        assert found["num_queries"] == 12
    means = [results["figures"][language]["map"] for language in data]
    assert results["summary"]["mean"]["map"] == pytest.approx(np.mean(means))


def test_the_run_and_the_exact_ranks_are_written_by_id_and_agree(tmp_path: Path) -> None:
    data = fake()
    _evaluate(_task(tmp_path, {"aa": data}), tmp_path, save_run=tmp_path / "run")
    run = [line.split() for line in (tmp_path / "run" / "aa.trec").read_text().splitlines()]
    place = {(query, passage): int(at) for query, _, passage, at, _, _ in run}
    assert len(place) == 12 * 60
    ranks = [line.split("\t") for line in (tmp_path / "run" / "aa.ranks.tsv").read_text().splitlines()]
    relevant = {(q, d) for q, judged in data.grades.items() for d, grade in judged.items() if grade > 0}
    assert {(q, d) for q, d, _ in ranks} == relevant
    assert all(place[query, passage] == int(at) for query, passage, at in ranks)


def test_languages_may_share_a_collection(tmp_path: Path) -> None:
    data = fake()
    passages = Passages(
        "pool",
        [write_lines(tmp_path / "p.jsonl", ({"_id": i, "text": t} for i, t in data.passages.items()))],
        json_lines("_id"),
    )
    whole = query_set(data)
    halves = {
        "aa": ("pool", query_set(data._replace(queries=dict(list(data.queries.items())[:5])))),
        "bb": ("pool", query_set(data._replace(queries=dict(list(data.queries.items())[5:])))),
    }
    apart = _evaluate(CollectionTask("t", {"pool": passages}, halves, METRICS), tmp_path)["figures"]
    joined = _evaluate(CollectionTask("t", {"pool": passages}, {"all": ("pool", whole)}, METRICS), tmp_path)["figures"]
    assert (5 * apart["aa"]["map"] + 7 * apart["bb"]["map"]) / 12 == pytest.approx(joined["all"]["map"])


def test_a_query_without_a_relevant_passage_is_left_out_and_counted(tmp_path: Path) -> None:
    data = fake()
    task = _task(tmp_path, {"aa": data})
    before = _evaluate(task, tmp_path)["figures"]["aa"]
    one = task.searches["aa"][1]
    one.ids.insert(3, "idle")
    one.texts.insert(3, "amber?")
    one.relevant.insert(3, {})
    after = _evaluate(task, tmp_path)["figures"]["aa"]
    assert after == {**before, "num_skipped": 1}


def _results_of_processes(folder: str) -> tuple[str, int]:
    encoder: Any = CollectionEncoder()
    task = _task(Path(folder) / "data", {"aa": fake(), "bb": fake(seed=2)})
    options = ScoringOptions(batch_size=8, index=Path(folder) / "index", progress=False)
    return dump(evaluate_collections(encoder, task, model="toy", options=options)[0]), len(encoder.seen)


@pytest.mark.slow
def test_processes_share_the_shards_and_write_the_same_bytes(tmp_path: Path) -> None:
    alone, whole = _results_of_processes(str(tmp_path / "one"))
    together = run_processes(_results_of_processes, 2, str(tmp_path / "two"))
    assert [results for results, _ in together] == [alone, alone]
    assert all(seen < whole - 40 for _, seen in together)


def test_the_figures_are_the_means_of_those_of_single_queries(tmp_path: Path) -> None:
    task = _task(tmp_path, {"aa": fake(), "bb": fake(seed=3)})
    task.searches["bb"][1].relevant[2].clear()
    encoder: Any = CollectionEncoder()
    tables: QueryTables = {}
    options = ScoringOptions(batch_size=8, index=tmp_path, progress=False)
    results, _ = evaluate_collections(encoder, task, model="toy", options=options, per_query=tables)
    assert tables["languages"].tolist() == ["aa", "bb"]
    for language in ("aa", "bb"):
        assert tables[f"ids/{language}"].tolist() == [f"{language}/{x}" for x in task.searches[language][1].ids]
        for metric in (*METRICS, "map"):
            values = tables[f"{metric}/{language}"]
            assert np.nanmean(values) == pytest.approx(results["figures"][language][metric])
            assert np.isnan(values).sum() == results["figures"][language]["num_skipped"] == (language == "bb")
