"""Runs that may not stand in one table are refused, with both files named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.reporting.grids.comparable import check_comparable
from hybatch.reporting.grids.record_folder import read_record_folder
from tests.reporting.grids.synthetic import LANGUAGES, Spec, change_questions, write_record


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return (write_record(tmp_path, Spec(sampling="x-y")), write_record(tmp_path, Spec(sampling="x-x-mono")))


def _check(pair: tuple[Path, Path]) -> None:
    check_comparable([read_record_folder(folder) for folder in pair])


def _change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _refused(pair: tuple[Path, Path], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        _check(pair)
    assert all(str(folder / "study.json") in str(caught.value) for folder in pair)


def test_runs_that_differ_in_sampling_and_seed_are_comparable(pair: tuple[Path, Path]) -> None:
    _check(pair)


@pytest.mark.parametrize(("field", "value"), [("backbone_sha256", "d" * 64), ("steps", 500)])
def test_one_start_has_one_backbone_and_one_budget(pair: tuple[Path, Path], field: str, value: Any) -> None:
    _change(pair[1] / "study.json", **{field: value})
    _refused(pair, f"'{field}' is {value}")
    _change(pair[1] / "study.json", start="mini-other")
    _check(pair)


@pytest.mark.parametrize("field", ["num_queries", "num_candidates"])
def test_one_task_has_one_data_set(pair: tuple[Path, Path], field: str) -> None:
    _change(pair[1] / "mlqa-r" / "results.json", **{field: {"aa": 40, "bb": 41}})
    _refused(pair, f"'{field}' of mlqa-r is")


def test_one_task_has_the_same_languages(pair: tuple[Path, Path]) -> None:
    shutil.rmtree(pair[1])
    write_record(pair[1].parent, Spec(sampling="x-x-mono"), tasks={"xquad-r": LANGUAGES[:2]})
    _refused(pair, "'languages' of xquad-r is aa bb, but aa bb cc")


def test_one_task_has_the_same_questions(pair: tuple[Path, Path]) -> None:
    path = pair[1] / "xquad-r" / "questions.npz"
    with np.load(path) as archive:
        ids, precision = archive["ids"], archive["multilingual"]
    change_questions(path, ids=np.char.add("x", ids))
    _refused(pair, "other questions of xquad-r than")
    precision[3] = np.nan
    change_questions(path, ids=ids, multilingual=precision)
    _refused(pair, "other questions of xquad-r have a 'multilingual' figure")


def test_two_runs_of_one_seed_are_refused(pair: tuple[Path, Path]) -> None:
    _change(pair[1] / "study.json", sampling="x-y")
    _refused(pair, "the same start, sampling")
    _change(pair[1] / "study.json", seed=2, name=pair[0].name)
    _refused(pair, "'name'")
