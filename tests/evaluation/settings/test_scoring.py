"""Every figure of every setting, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.errors import UserError
from hybatch.evaluation.results import dump
from hybatch.evaluation.settings import scoring
from hybatch.evaluation.settings.scoring import METRICS, score
from hybatch.evaluation.settings.task import RetrievalTask
from tests.evaluation.oracle import largest_difference, oracle_results
from tests.evaluation.synthetic import MemoryEmbeddings, random_embeddings, synthetic_task


def _score(task: RetrievalTask, width: int, seed: int, *, integers: bool) -> tuple[dict, dict]:
    queries, candidates = random_embeddings(task, width, seed, integers=integers)
    found = score(MemoryEmbeddings(queries, candidates), task, model="random", progress=False)
    return found, oracle_results(queries, candidates, task)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 5), st.booleans())
def test_every_figure_of_every_setting_agrees_with_a_stable_sort(seed: int, num_languages: int, integers: bool) -> None:
    task = synthetic_task(seed, tuple("abcde"[:num_languages]))
    found, expected = _score(task, 6, seed, integers=integers)
    difference, where = largest_difference(found, expected)
    assert difference < 1e-12, where


def test_all_scores_equal_gives_the_order_of_the_candidates() -> None:
    task = synthetic_task(3)
    ones = {x: np.ones((len(task.queries[x]), 2), np.float32) for x in task.languages}
    pool = {x: np.ones((len(task.candidates[x]), 2), np.float32) for x in task.languages}
    found = score(MemoryEmbeddings(ones, pool), task, model="ones", progress=False)
    assert largest_difference(found, oracle_results(ones, pool, task))[0] < 1e-12
    assert found["ties"]["positives_tied"] == sum(len(row) for rows in task.positives.values() for row in rows)
    assert found["ties"]["map_pessimistic"] < found["summary"]["multilingual"]["map"] < found["ties"]["map_optimistic"]


def test_a_pair_without_positives_has_no_figures_and_is_in_no_mean() -> None:
    task = RetrievalTask(
        name="one-way",
        languages=("aa", "bb"),
        queries={"aa": ["q0", "q1"], "bb": ["q0"]},
        candidates={"aa": ["c0", "c1"], "bb": ["c0"]},
        positives={"aa": [[0], [1, 0]], "bb": [[0]]},
    )
    found, _ = _score(task, 4, 0, integers=False)
    absent = found["pairs"]["aa"]["bb"]
    assert [absent[metric] for metric in METRICS] == [None] * len(METRICS)
    assert (absent["num_queries"], absent["num_skipped"]) == (0, 2)
    assert found["summary"]["cross_lingual"]["map"] == found["pairs"]["bb"]["aa"]["map"]
    assert found["summary"]["cross_lingual"]["num_settings"] == 1
    assert found["summary"]["monolingual"]["map"] == found["pairs"]["aa"]["aa"]["map"]


def test_skipped_queries_are_counted_never_scored_as_zero() -> None:
    task = RetrievalTask(
        name="half",
        languages=("aa",),
        queries={"aa": ["q0", "q1"]},
        candidates={"aa": ["c0", "c1"]},
        positives={"aa": [[0], []]},
    )
    queries = {"aa": np.eye(2, dtype=np.float32)}
    found = score(MemoryEmbeddings(queries, queries), task, model="", progress=False)
    figures = found["multilingual"]["aa"]
    assert (figures["map"], figures["num_queries"], figures["num_skipped"]) == (1.0, 1, 1)


@pytest.mark.parametrize("block", [1, 3, 7])
def test_the_size_of_the_blocks_changes_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task = synthetic_task(8, most=40)
    embeddings = MemoryEmbeddings(*random_embeddings(task, 6))
    whole = score(embeddings, task, model="", progress=False)
    monkeypatch.setattr(scoring, "_BLOCK", block)
    assert dump(score(embeddings, task, model="", progress=False)) == dump(whole)


@given(st.integers(0, 10**6), st.data())
def test_candidates_are_found_by_their_place_in_the_pool(seed: int, data: st.DataObject) -> None:
    task = synthetic_task(seed)
    queries, candidates = random_embeddings(task, 3, seed)
    chosen = sorted(data.draw(st.sets(st.integers(0, task.num_candidates - 1), min_size=1)))
    found = scoring._candidates(MemoryEmbeddings(queries, candidates), task, np.array(chosen))
    np.testing.assert_array_equal(found, np.concatenate([candidates[x] for x in task.languages])[chosen])


def test_scores_that_overflow_float32_are_the_users_to_mend() -> None:
    task = synthetic_task(9)
    queries, candidates = random_embeddings(task, 6)
    candidates["bb"][-1] *= 1e38
    queries["aa"] *= 1e10
    with pytest.raises(UserError, match=r"cannot be ranked.*overflow"):
        score(MemoryEmbeddings(queries, candidates), task, model="", progress=False)


@pytest.mark.parametrize("size", [0, 400, 1200])
def test_languages_that_take_turns_for_want_of_memory_give_the_same_results(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = synthetic_task(11, ("aa", "bb", "cc", "dd"), 30)
    embeddings = MemoryEmbeddings(*random_embeddings(task, 6))
    whole = score(embeddings, task, model="", progress=False)
    monkeypatch.setattr(scoring, "_COUNT_BYTES", size)
    assert len(scoring._turns(task)) > 1
    assert score(embeddings, task, model="", progress=False) == whole


def test_the_languages_of_the_best_candidates_are_those_of_a_full_sort() -> None:
    task = synthetic_task(12, ("aa", "bb", "cc"), 60)
    queries, candidates = random_embeddings(task, 6)
    found = score(MemoryEmbeddings(queries, candidates), task, model="", progress=False)["top_languages"]
    pool = np.concatenate([candidates[x] for x in task.languages]).astype(np.float64)
    language_of = np.array(task.languages)[task.candidate_groups()]
    for x in task.languages:
        best = [language_of[np.argsort(-(pool @ query), kind="stable")[:10]] for query in queries[x].astype(np.float64)]
        shares = {y: float(np.mean(np.array(best) == y)) for y in task.languages}
        assert found["top"]["10"]["share"][x] == pytest.approx(shares)
        assert found["pool_share"][x] == len(candidates[x]) / len(pool)
