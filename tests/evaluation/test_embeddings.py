"""Ready embeddings: what is taken, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.embeddings import StoredEmbeddings, check_save_directory, save_embeddings, unit_rows
from hybatch.evaluation.encoding.encode import EncodedTask
from hybatch.evaluation.results import dump
from hybatch.evaluation.settings.scoring import score
from hybatch.evaluation.settings.task import RetrievalTask
from tests.evaluation.synthetic import ToyEncoder, random_embeddings, synthetic_task, write_embeddings


@pytest.fixture
def task() -> RetrievalTask:
    return synthetic_task(2)


@pytest.fixture
def folder(task: RetrievalTask, tmp_path: Path) -> Path:
    return write_embeddings(tmp_path / "embeddings", *random_embeddings(task, 8))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_half_single_and_double_precision_are_read_as_float32(
    task: RetrievalTask, folder: Path, dtype: type[np.floating]
) -> None:
    for path in folder.iterdir():
        np.save(path, np.load(path).astype(dtype))
    rows = StoredEmbeddings(folder, task).embeddings("queries", "aa")
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.load(folder / "queries.aa.npy").astype(np.float32))


def test_raw_float32_files_are_read_in_the_place_of_arrays(task: RetrievalTask, folder: Path) -> None:
    expected = StoredEmbeddings(folder, task).embeddings("queries", "aa")
    path = folder / "queries.aa.npy"
    np.load(path).astype("<f4").tofile(path.with_suffix(".raw"))
    path.unlink()
    np.testing.assert_array_equal(StoredEmbeddings(folder, task).embeddings("queries", "aa"), expected)


def test_a_raw_file_that_is_not_whole_rows_is_refused(task: RetrievalTask, folder: Path) -> None:
    path = folder / "queries.aa.npy"
    path.with_suffix(".raw").write_bytes(np.load(path).astype("<f4").tobytes()[:-4])
    path.unlink()
    with pytest.raises(UserError, match=r"queries\.aa\.raw: \d+ bytes are not \d+ rows"):
        StoredEmbeddings(folder, task)


def test_rows_of_another_length_are_scaled_to_one(task: RetrievalTask, folder: Path) -> None:
    path = folder / "candidates.bb.npy"
    before = np.load(path)
    np.save(path, before * 3.7)
    rows = StoredEmbeddings(folder, task).embeddings("candidates", "bb")
    np.testing.assert_allclose(rows, before, atol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_row_has_the_same_bits_whichever_others_are_read_with_it(
    task: RetrievalTask, order: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    tables = ({x: rng.standard_normal((len(part[x]), 100)) for x in part} for part in (task.queries, task.candidates))
    ordered = ({x: np.asarray(rows, order=order) for x, rows in table.items()} for table in tables)
    stored = StoredEmbeddings(write_embeddings(tmp_path / "embeddings", *ordered), task)
    encoder: Any = ToyEncoder()
    for embeddings in (stored, EncodedTask(encoder, task, batch_size=4, progress=False)):
        for language in task.languages:
            every = embeddings.embeddings("candidates", language)
            some = rng.integers(0, len(every), 5)
            np.testing.assert_array_equal(embeddings.embeddings("candidates", language, some), every[some])
            for row in range(len(every)):
                one = embeddings.embeddings("candidates", language, slice(row, row + 1))
                np.testing.assert_array_equal(one, every[row : row + 1])
            assert embeddings.embeddings("candidates", language, slice(0, 0)).shape == (0, every.shape[1])


def test_rows_of_length_one_keep_their_bits() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    once = unit_rows(rows)
    np.testing.assert_array_equal(unit_rows(once), once)


def test_whole_numbers_are_scored_by_their_exact_inner_product(task: RetrievalTask, tmp_path: Path) -> None:
    queries, candidates = random_embeddings(task, 8, integers=True)
    stored = StoredEmbeddings(write_embeddings(tmp_path, queries, candidates), task)
    assert stored.similarity == "dot"
    np.testing.assert_array_equal(stored.embeddings("queries", "aa"), queries["aa"])


def test_saved_embeddings_score_exactly_like_the_model(task: RetrievalTask, tmp_path: Path) -> None:
    encoded = EncodedTask(ToyEncoder(), task, batch_size=4, progress=False)  # type: ignore[arg-type]
    save_embeddings(encoded, task, tmp_path / "saved")
    stored = StoredEmbeddings(tmp_path / "saved", task)
    assert dump(score(stored, task, model="toy", progress=False)) == dump(
        score(encoded, task, model="toy", progress=False)
    )


def test_a_language_without_queries_needs_a_file_without_rows(tmp_path: Path) -> None:
    task = RetrievalTask(
        "t", ("aa", "bb"), {"aa": ["q"], "bb": []}, {"aa": ["c"], "bb": ["c"]}, {"aa": [[0]], "bb": []}
    )
    folder = write_embeddings(tmp_path, *random_embeddings(task, 4))
    assert StoredEmbeddings(folder, task).embeddings("queries", "bb").shape == (0, 4)


def _break(folder: Path, how: str) -> None:
    path = folder / "candidates.bb.npy"
    rows = np.load(path)
    if how == "missing":
        path.unlink()
    elif how == "rows":
        np.save(path, np.concatenate([rows, rows]))
    elif how == "flat":
        np.save(path, rows.ravel())
    elif how == "width":
        np.save(path, rows[:, :-1])
    elif how == "integers":
        np.save(path, np.ones(rows.shape, dtype=np.int64))
    elif how == "objects":
        np.save(path, np.full(rows.shape, None))
    elif how == "text":
        path.write_text("no array")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-8])
    elif how == "archive":
        with open(path, "wb") as file:
            np.savez(file, rows=rows)
    elif how == "zero":
        np.save(path, np.concatenate([np.zeros_like(rows[:1]), rows[1:]]))
    else:
        rows = rows.astype(np.float64)
        rows[-1, 2] = {"nan": np.nan, "infinite": np.inf, "too large": 1e200}[how]
        np.save(path, rows)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "missing; expected an array"),
        ("rows", "shape"),
        ("flat", "shape"),
        ("width", "width 7, but queries.aa.npy has width 8"),
        ("integers", r"dtype int64, .*; save it as one of these"),
        ("objects", "not a readable .npy file"),
        ("text", r"not a readable .npy file \(it does not begin as one\)"),
        ("truncated", "not a readable .npy file"),
        ("archive", "an archive"),
        ("zero", "row 0 is all zeros"),
        ("nan", "column 2 is not a finite number"),
        ("infinite", "column 2 is not a finite number"),
        ("too large", "column 2 is not a finite number"),
    ],
)
def test_a_bad_file_is_refused_by_name(task: RetrievalTask, folder: Path, how: str, message: str) -> None:
    _break(folder, how)
    with pytest.raises(UserError, match=message) as caught:
        StoredEmbeddings(folder, task)
    assert "candidates.bb.npy" in str(caught.value)


def test_the_message_names_the_expected_shape(task: RetrievalTask, folder: Path) -> None:
    _break(folder, "rows")
    count = len(task.candidates["bb"])
    with pytest.raises(UserError, match=rf"shape \[{2 * count}, 8\], expected \[{count}, width\]"):
        StoredEmbeddings(folder, task)


def test_a_folder_that_is_not_there_is_refused(task: RetrievalTask, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        StoredEmbeddings(tmp_path / "nowhere", task)


def test_saving_replaces_embeddings_but_never_other_files(task: RetrievalTask, folder: Path) -> None:
    check_save_directory(folder)
    (folder / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        check_save_directory(folder)
