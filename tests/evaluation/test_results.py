"""results.json on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.results import check_output, dump, read_any_results, write_results
from hybatch.evaluation.settings.scoring import score
from tests.evaluation.synthetic import MemoryEmbeddings, random_embeddings, synthetic_task


@pytest.fixture
def results() -> dict[str, Any]:
    task = synthetic_task(4)
    return score(MemoryEmbeddings(*random_embeddings(task, 8)), task, model="random", progress=False)


def _check(directory: Path, **changed: Any) -> None:
    asked = {"task": "synthetic", "model": "random", "languages": ["aa", "bb", "cc"], "overwrite": False}
    check_output(directory, **{**asked, **changed})


def test_what_is_written_reads_back_equal(results: dict[str, Any], tmp_path: Path) -> None:
    write_results(tmp_path / "new" / "folder", results, {"seconds": 1.5})
    assert read_any_results(tmp_path / "new" / "folder" / "results.json") == results
    assert json.loads((tmp_path / "new" / "folder" / "timings.json").read_text()) == {"seconds": 1.5}


def test_equal_objects_have_equal_bytes_whatever_the_order_of_their_keys(results: dict[str, Any]) -> None:
    assert dump(results) == dump(dict(reversed(results.items())))


def test_the_same_evaluation_may_be_repeated_into_its_folder(results: dict[str, Any], tmp_path: Path) -> None:
    write_results(tmp_path, results, {})
    _check(tmp_path)


@pytest.mark.parametrize(
    "changed", [{"task": "xquad-r"}, {"model": "other"}, {"languages": ["aa"]}], ids=["task", "model", "languages"]
)
def test_results_of_something_else_need_overwrite(
    results: dict[str, Any], tmp_path: Path, changed: dict[str, Any]
) -> None:
    write_results(tmp_path, results, {})
    with pytest.raises(UserError, match=f"(?s){next(iter(changed))}.*--overwrite"):
        _check(tmp_path, **changed)
    _check(tmp_path, **changed, overwrite=True)


@pytest.mark.parametrize(
    ("found", "measured", "other"),
    [
        ({"similarity": "dot"}, {"similarity": "cosine"}, "similarity"),
        ({"search": "torch", "index_dtype": "float32"}, {"search": "torch", "index_dtype": "float16"}, "index_dtype"),
        ({"debias": {"method": "centre", "seen": 3}}, {"debias": {"method": "lir"}}, "debias"),
        ({"debias": {"method": "centre", "seen": 3}}, {"debias": None}, "debias"),
        ({}, {"debias": {"method": "lir"}}, "debias"),
        ({"debias": {"method": "lir", "seen": 3}}, {"debias": {"method": "lir"}}, None),
        ({}, {"debias": None}, None),
        ({}, {"search": "faiss-hnsw"}, None),
    ],
)
def test_results_that_were_measured_in_another_way_need_overwrite(
    results: dict[str, Any], tmp_path: Path, found: dict[str, Any], measured: dict[str, Any], other: str | None
) -> None:
    write_results(tmp_path, results | found, {})
    if other is None:
        _check(tmp_path, measured=measured)
        return
    with pytest.raises(UserError, match=f"(?s){other}.*--overwrite"):
        _check(tmp_path, measured=measured)
    _check(tmp_path, measured=measured, overwrite=True)


def test_a_foreign_results_file_needs_overwrite(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"accuracy": 1}')
    with pytest.raises(UserError, match="--overwrite"):
        _check(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="is a file"):
        _check(tmp_path / "taken" / "below")


@pytest.mark.parametrize("text", ["{", "[]", '{"task": 1}'])
def test_anything_but_results_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=r"results\.json"):
        read_any_results(tmp_path / "results.json")
