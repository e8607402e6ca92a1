"""Every bias metric of every query against brute force and scipy, and its table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.evaluation.settings import scoring
from hybatch.evaluation.settings.bias_metrics import BIAS_METRICS, BILINGUAL, POOLS, english_of, metrics_of
from hybatch.evaluation.settings.per_query import QueryTables
from hybatch.evaluation.settings.scoring import score
from hybatch.evaluation.settings.task import RetrievalTask
from hybatch.ops.backend import why_missing
from hybatch.ops.ranking import best
from tests.evaluation.bias_oracle import oracle_pool, oracle_query
from tests.evaluation.synthetic import MemoryEmbeddings, random_embeddings, synthetic_task

LANGUAGES = ("de", "en", "es", "zh")


def _task(queries: dict[str, int], candidates: dict[str, int], positives: dict[str, list[list[int]]]) -> RetrievalTask:
    return RetrievalTask(
        "made",
        tuple(sorted(queries)),
        {x: [f"{x} query {i}" for i in range(n)] for x, n in queries.items()},
        {x: [f"{x} candidate {i}" for i in range(n)] for x, n in candidates.items()},
        positives,
    )


def _scored(
    task: RetrievalTask, queries: dict[str, np.ndarray], candidates: dict[str, np.ndarray]
) -> tuple[dict, QueryTables]:
    tables: QueryTables = {}
    embeddings = MemoryEmbeddings(queries, candidates)
    return score(embeddings, task, model="", progress=False, per_query=tables)["language_bias"], tables


def _check_against_oracle(
    task: RetrievalTask, queries: dict[str, np.ndarray], candidates: dict[str, np.ndarray]
) -> dict:
    found, tables = _scored(task, queries, candidates)
    pool, language_of = oracle_pool(candidates, task)
    english = "en" if "en" in language_of else None
    for x in task.languages:
        expected = [
            oracle_query(query, positives, x, pool, language_of, english)
            for query, positives in zip(queries[x], task.positives[x], strict=True)
        ]
        for kind in POOLS:
            of_kind = found[kind].get(x)
            assert (of_kind is None) == (kind == BILINGUAL and english in (None, x)), (kind, x)
            for metric in metrics_of(kind) if of_kind is not None else ():
                column = np.array([row[metric.name] for row in expected])
                np.testing.assert_allclose(tables[f"{metric.name}/{x}"], column, atol=2e-8, err_msg=metric.name)
                counted = column[~np.isnan(column)]
                assert of_kind[metric.name] == (pytest.approx(counted.mean(), abs=2e-8) if len(counted) else None)
    return found


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 4), st.booleans(), st.sampled_from([12, 50]))
def test_every_metric_of_every_query_agrees_with_a_full_sort_and_scipy(
    seed: int, num_languages: int, integers: bool, most: int
) -> None:
    task = synthetic_task(seed, LANGUAGES[:num_languages], most)
    _check_against_oracle(task, *random_embeddings(task, 6, seed, integers=integers))


@pytest.mark.parametrize("backend", [name for name in ("torch", "cpu") if why_missing(name) is None])
def test_neither_backend_nor_blocks_nor_turns_nor_tiles_change_a_figure(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = synthetic_task(8, LANGUAGES, 60)
    embeddings = MemoryEmbeddings(*random_embeddings(task, 6, integers=True))
    runs: list[tuple[dict, QueryTables]] = []
    for chosen, block, turn, tile in (("torch", 4096, 2**32, 2**22), (backend, 7, 400, 500)):
        monkeypatch.setattr(scoring, "_BLOCK", block)
        monkeypatch.setattr(scoring, "_COUNT_BYTES", turn)
        monkeypatch.setattr(best, "_TILE_SCORES", tile)
        tables: QueryTables = {}
        found = score(embeddings, task, model="", backend=chosen, progress=False, per_query=tables)
        runs.append((found["language_bias"], tables))
    assert runs[0][0] == runs[1][0]
    assert runs[0][0]["bilingual"].keys() == {"de", "es", "zh"}
    for name, values in runs[0][1].items():
        assert values.tobytes() == runs[1][1][name].tobytes(), name


def test_with_all_scores_equal_the_order_of_the_pool_decides() -> None:
    task = synthetic_task(3, LANGUAGES, 40)
    queries, candidates = (
        {x: np.ones((len(table[x]), 2), np.float32) for x in LANGUAGES} for table in (task.queries, task.candidates)
    )
    found = _check_against_oracle(task, queries, candidates)
    assert found["first"] == {x: {y: float(y == "de") for y in LANGUAGES} for x in LANGUAGES}


def test_a_query_with_answers_in_one_language_only_counts_where_it_can() -> None:
    task = _task({"de": 2, "en": 1}, {"de": 4, "en": 3}, {"de": [[0, 1, 2], [5]], "en": [[4]]})
    found = _check_against_oracle(task, *random_embeddings(task, 3))
    assert found["multilingual"]["de"]["own_language_first"] is None
    assert found["multilingual"]["de"]["peer_answers@10"] is None
    assert found["multilingual"]["de"]["peer_others@10"] is not None


def test_one_language_alone_has_neither_a_bilingual_pool_nor_a_preference() -> None:
    task = _task({"en": 3}, {"en": 5}, {"en": [[0], [1], []]})
    found = _check_against_oracle(task, *random_embeddings(task, 3))
    assert (found["pivot"], found["bilingual"]) == ("en", {})
    assert found["multilingual"]["en"]["own_language_first"] is None
    assert set(found["summary"]["bilingual"].values()) == {None}


def test_a_pool_without_english_has_no_bilingual_setting() -> None:
    for english in ({}, {"en": 0}):
        task = _task(
            {"de": 2, "es": 1, **dict.fromkeys(english, 1)},
            {"de": 3, "es": 2, **english},
            {"de": [[0], [4]], "es": [[1]], **{x: [[2]] for x in english}},
        )
        found, tables = _scored(task, *random_embeddings(task, 3))
        assert (found["pivot"], found["bilingual"]) == (None, {})
        assert not any(name.startswith("bilingual") for name in tables)


def test_languages_without_queries_or_candidates_change_nothing_of_the_others() -> None:
    task = _task(
        {"de": 0, "en": 2, "es": 2}, {"de": 3, "en": 4, "es": 0}, {"de": [], "en": [[0], [4]], "es": [[5], []]}
    )
    found = _check_against_oracle(task, *random_embeddings(task, 3))
    assert found["first"]["de"] is None
    assert found["multilingual"]["de"]["last_rank"] is None


def test_a_model_that_answers_in_english_whatever_is_asked_is_inclined_to_it() -> None:
    task = _task(
        {"de": 3, "en": 3}, {"de": 3, "en": 3}, {"de": [[0, 3], [1, 4], [2, 5]], "en": [[0, 3], [1, 4], [2, 5]]}
    )
    meanings = np.eye(4, dtype=np.float32)[:3]
    english = np.roll(meanings, 1, axis=0) * 2  # of something else, and nearest to every query
    queries, candidates = {"de": meanings, "en": meanings}, {"de": meanings, "en": english}
    found, _ = _scored(task, queries, candidates)
    assert found["bilingual"]["de"]["english_inclination"] == 1
    assert found["multilingual"]["de"]["first_wrong_other"] == 1
    assert found["multilingual"]["en"]["first_wrong_own"] == 1
    assert found["first"] == {x: {"de": 0.0, "en": 1.0} for x in ("de", "en")}


def test_the_four_kinds_of_first_candidates_are_all_there_are() -> None:
    task = synthetic_task(4, LANGUAGES, 30)
    found, _ = _scored(task, *random_embeddings(task, 6))
    for figures in found["multilingual"].values():
        assert sum(value for name, value in figures.items() if name.startswith("first_")) == pytest.approx(1)


def test_a_perfect_order_has_the_best_figures() -> None:
    task = _task({"de": 1, "en": 1}, {"de": 20, "en": 20}, {"de": [[0, 20]], "en": [[0, 20]]})
    rng = np.random.default_rng(0)
    candidates = {x: np.abs(rng.normal(size=(20, 5))).astype(np.float32) for x in ("de", "en")}
    for x, value in (("de", 90.0), ("en", 80.0)):
        candidates[x][0] = value
    found, _ = _scored(task, {x: np.ones((1, 5), np.float32) for x in ("de", "en")}, candidates)
    figures = found["multilingual"]["de"]
    assert (figures["last_rank"], figures["last_place"], figures["rank_distance"]) == (2, 0, 1)
    assert (figures["complete@10"], figures["lang_ndcg@10"], figures["first_right_own"]) == (1, 1, 1)
    assert found["multilingual"]["en"]["lang_ndcg@10"] == pytest.approx((1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3)))


@pytest.mark.parametrize(
    ("languages", "english"),
    [
        (["de", "en"], "en"),
        (["deu_Latn", "eng_Latn"], "eng_Latn"),
        (["de", "en-GB", "en-US"], "en-GB"),
        (["eno"], None),
    ],
)
def test_english_is_known_by_any_of_its_codes(languages: list[str], english: str | None) -> None:
    assert english_of(languages) == english


def test_every_metric_says_what_it_is_and_where_it_comes_from() -> None:
    for name, metric in BIAS_METRICS.items():
        assert name == metric.name
        assert metric.pool in POOLS
        assert metric.label
        assert metric.definition
        assert "arXiv" in metric.source
    for kind in POOLS:
        assert len({metric.label for metric in metrics_of(kind)}) == len(metrics_of(kind))
