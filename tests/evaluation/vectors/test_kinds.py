"""What embeddings become as small vectors, and what is left of the scores."""

from __future__ import annotations

import numpy as np
import pytest

from hybatch.evaluation.embeddings import unit_rows
from hybatch.evaluation.settings.task import RetrievalTask
from hybatch.evaluation.vectors.kinds import VECTOR_KINDS
from hybatch.evaluation.vectors.prefixes import PrefixEmbeddings
from tests.evaluation.synthetic import MemoryEmbeddings, random_embeddings, synthetic_task
from tests.evaluation.vectors.oracle import whole_vectors

WIDTH = 21


@pytest.fixture
def task() -> RetrievalTask:
    return synthetic_task(3, most=40)


@pytest.fixture
def rows(task: RetrievalTask) -> MemoryEmbeddings:
    """Unit vectors, with one dimension that is large and hardly varies, as encoders have them."""
    queries, candidates = random_embeddings(task, WIDTH, 5)
    for table in (queries, candidates):
        for language in table:
            table[language][:, 4] += 3.0
            table[language] = unit_rows(table[language])
    return MemoryEmbeddings(queries, candidates)


def _pool(embeddings: object, task: RetrievalTask) -> np.ndarray:
    return np.concatenate([embeddings.embeddings("candidates", x) for x in task.languages])  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "dtype", "width"), [("float32", "f4", 21), ("int8", "i1", 21), ("binary", "u1", 3)])
def test_each_kind_takes_the_bytes_that_it_says(
    rows: MemoryEmbeddings, task: RetrievalTask, kind: str, dtype: str, width: int
) -> None:
    vectors = VECTOR_KINDS[kind].of(rows, task).embeddings("candidates", "bb")
    assert (vectors.dtype, vectors.shape[1]) == (np.dtype(dtype), width)
    assert vectors[0].nbytes == VECTOR_KINDS[kind].bytes_of(WIDTH)


def test_a_row_has_the_same_codes_whichever_others_are_asked_for_with_it(
    rows: MemoryEmbeddings, task: RetrievalTask
) -> None:
    for kind in VECTOR_KINDS.values():
        vectors = kind.of(PrefixEmbeddings(rows, 13), task)
        for part in ("queries", "candidates"):
            whole = vectors.embeddings(part, "aa")
            for row in range(len(whole)):
                np.testing.assert_array_equal(vectors.embeddings(part, "aa", np.array([row]))[0], whole[row])


def test_whole_numbers_fill_their_range_and_keep_scores_within_half_a_step_a_dimension(
    rows: MemoryEmbeddings, task: RetrievalTask
) -> None:
    codes = VECTOR_KINDS["int8"].of(rows, task)
    pool = _pool(rows, task).astype(np.float64)
    assert np.abs(_pool(codes, task).astype(int)).max() == 127
    middle = (pool.min(axis=0) + pool.max(axis=0)) / 2
    step = (pool.max(axis=0) - pool.min(axis=0)).max() / 254
    for language in task.languages:
        queries = rows.embeddings("queries", language).astype(np.float64)
        query_codes = codes.embeddings("queries", language).astype(np.float64)
        assert (np.abs(query_codes).max(axis=1) == 127).all()
        query_step = np.abs(queries).max(axis=1, keepdims=True) / 127
        found = (query_codes * query_step) @ (_pool(codes, task).astype(np.float64) * step).T
        exact = queries @ (pool - middle).T
        reach = np.abs(queries).sum(1)[:, None] * step / 2 + np.abs(pool - middle).sum(1) * query_step / 2
        assert (np.abs(found - exact) <= reach + WIDTH * step * query_step / 4 + 1e-12).all()


def test_the_ranges_are_those_of_the_candidates_of_all_languages(task: RetrievalTask) -> None:
    queries, candidates = random_embeddings(task, WIDTH, 5)
    for language, table in candidates.items():
        candidates[language] = table * (0.1 if language != "cc" else 1.0)
    codes = VECTOR_KINDS["int8"].of(MemoryEmbeddings(queries, candidates), task)
    _, expected = whole_vectors(queries, candidates, "int8", WIDTH)
    for language in task.languages:
        np.testing.assert_array_equal(codes.embeddings("candidates", language), expected[language])


def test_a_bit_is_set_where_the_value_is_above_zero(rows: MemoryEmbeddings, task: RetrievalTask) -> None:
    bits = VECTOR_KINDS["binary"].of(rows, task).embeddings("queries", "aa")
    values = rows.embeddings("queries", "aa")
    np.testing.assert_array_equal(np.unpackbits(bits, axis=1, count=WIDTH).astype(bool), values > 0)
    assert not np.unpackbits(bits, axis=1)[:, WIDTH:].any()


def test_candidates_that_are_all_one_vector_become_zeros(task: RetrievalTask) -> None:
    queries, candidates = random_embeddings(task, WIDTH, 5)
    same = {language: np.ones_like(table) for language, table in candidates.items()}
    assert not _pool(VECTOR_KINDS["int8"].of(MemoryEmbeddings(queries, same), task), task).any()


def test_prefixes_have_length_one_and_the_direction_of_the_first_dimensions(
    rows: MemoryEmbeddings, task: RetrievalTask
) -> None:
    prefix = PrefixEmbeddings(rows, 5).embeddings("queries", "bb").astype(np.float64)
    values = rows.embeddings("queries", "bb")[:, :5].astype(np.float64)
    np.testing.assert_allclose(prefix, values / np.linalg.norm(values, axis=1, keepdims=True), rtol=1e-7)
    assert PrefixEmbeddings(rows, 5).embeddings("queries", "bb").dtype == np.float32


def test_a_prefix_of_zeros_stays_zeros(task: RetrievalTask) -> None:
    queries, candidates = random_embeddings(task, WIDTH, 5)
    queries["aa"][0, :5] = 0
    assert not PrefixEmbeddings(MemoryEmbeddings(queries, candidates), 5).embeddings("queries", "aa")[0].any()
