"""per_query.npz: the figures that results.json averages."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.results import dump
from hybatch.evaluation.settings.metrics import METRICS
from hybatch.evaluation.settings.per_query import QueryTables, read_query_tables, write_query_tables
from hybatch.evaluation.settings.scoring import score
from hybatch.evaluation.settings.task import LabelledTexts, RetrievalTask, join_by_label
from tests.evaluation.synthetic import MemoryEmbeddings, random_embeddings, synthetic_task


def _scored(task: RetrievalTask) -> tuple[dict, QueryTables]:
    tables: QueryTables = {}
    embeddings = MemoryEmbeddings(*random_embeddings(task, 6))
    results = score(embeddings, task, model="random", progress=False, per_query=tables)
    assert dump(results) == dump(score(embeddings, task, model="random", progress=False))
    return results, tables


def test_the_means_over_queries_are_the_figures_of_the_results() -> None:
    task = synthetic_task(5)
    results, tables = _scored(task)
    for x in task.languages:
        figures = [*(results["pairs"][x][y] for y in task.languages), results["multilingual"][x]]
        for column, expected in enumerate(figures):
            for metric in METRICS:
                values = tables[f"{metric}/{x}"][:, column]
                assert np.isnan(values).sum() == expected["num_skipped"]
                if expected["num_queries"]:
                    assert np.nanmean(values) == pytest.approx(expected[metric], rel=1e-12)
        distance = results["multilingual"][x]["rank_distance"]
        if distance is not None:
            assert np.nanmean(tables[f"rank_distance/{x}"]) == pytest.approx(distance, rel=1e-12)


def test_the_best_rank_in_the_pool_is_where_a_sort_finds_the_positive() -> None:
    task = synthetic_task(6)
    queries, candidates = random_embeddings(task, 6)
    tables: QueryTables = {}
    score(MemoryEmbeddings(queries, candidates), task, model="", progress=False, per_query=tables)
    pool = np.concatenate([candidates[x] for x in task.languages]).astype(np.float64)
    group = task.candidate_groups()
    for x in task.languages:
        expected = np.full((len(queries[x]), len(task.languages)), np.nan)
        for row, positives in enumerate(task.positives[x]):
            place = np.argsort(np.argsort(-(pool @ queries[x][row].astype(np.float64)), kind="stable")) + 1
            for positive in positives:
                expected[row, group[positive]] = np.nanmin([expected[row, group[positive]], place[positive]])
        np.testing.assert_array_equal(tables[f"pool_rank/{x}"], expected)


def test_parallel_questions_share_their_id() -> None:
    texts = {x: LabelledTexts([f"{x}1", f"{x}2"], ["q1", "q2"], [f"{x}a"], [["q1", "q2"]]) for x in ("aa", "bb")}
    _, tables = _scored(join_by_label("joined", texts))
    assert tables["ids/aa"].tolist() == tables["ids/bb"].tolist() == ["q1", "q2"]


def test_queries_without_ids_are_different_questions() -> None:
    task = synthetic_task(5)
    ids = np.concatenate([table for name, table in _scored(task)[1].items() if name.startswith("ids/")])
    assert len(set(ids)) == sum(map(len, task.queries.values()))


def test_equal_tables_give_equal_bytes_and_read_back_equal(tmp_path: Path) -> None:
    _, tables = _scored(synthetic_task(5))
    write_query_tables(tmp_path / "a.npz", tables)
    write_query_tables(tmp_path / "b.npz", dict(reversed(tables.items())))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}
    found = read_query_tables(tmp_path / "a.npz")
    assert found.keys() == tables.keys()
    for name, table in tables.items():
        np.testing.assert_array_equal(found[name], table)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"per_query\.npz: missing; evaluate again"):
        read_query_tables(tmp_path / "per_query.npz")
    (tmp_path / "per_query.npz").write_bytes(b"PK nonsense")
    with pytest.raises(UserError, match="not a per_query"):
        read_query_tables(tmp_path / "per_query.npz")


def test_a_file_that_cannot_be_decompressed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "per_query.npz"
    write_query_tables(path, {"map/en": np.random.default_rng(0).random(200)})
    changed = bytearray(path.read_bytes())
    changed[30 + len("map/en.npy")] |= 0b110  # behind the member's header: a kind of block that deflate does not have
    path.write_bytes(changed)
    with pytest.raises(UserError, match="not a per_query"):
        read_query_tables(path)
