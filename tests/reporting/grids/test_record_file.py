"""A record as a file: all that tables need of the run, exactly; whatever is wrong in it is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hybatch.errors import UserError
from hybatch.reporting.grids.description import GridDescription
from hybatch.reporting.grids.groups import gather_grid
from hybatch.reporting.grids.record_file import read_record_config, read_record_file, write_record_file
from hybatch.reporting.grids.record_folder import read_record_folder
from hybatch.reporting.grids.records import QUESTION_FIGURES, Run
from hybatch.reporting.grids.tables.all_tables import grid_tables
from hybatch.reporting.results import PairResults, Results
from hybatch.reporting.tables.render import csv_text, markdown
from tests.reporting.grids.synthetic import Spec, write_record
from tests.reporting.mutations import mutated, read_or_named

WRITTEN_BEFORE = Path(__file__).parents[2] / "written_before" / "record" / "hybrid--scratch--map--seed1"
RECORDED = Path(__file__).parents[3] / "results" / "scratch-recipes"


def _json(results: Results) -> str:
    """Without the languages of the best candidates and the ties, which no table of a grid shows."""
    return json.dumps({**dataclasses.asdict(results), "top_languages": None, "ties": None}, sort_keys=True)


def _assert_same(one: Run, other: Run) -> None:
    """But for where they were read from."""
    assert {task: _json(results) for task, results in one.results.items()} == {
        task: _json(results) for task, results in other.results.items()
    }
    assert one.questions.keys() == other.questions.keys()
    for task, questions in one.questions.items():
        assert questions.ids_sha256 == other.questions[task].ids_sha256
        for name in QUESTION_FIGURES:
            np.testing.assert_array_equal(getattr(questions, name), getattr(other.questions[task], name))
    losses, validations = ([row for row in one.curve if ("validation" in row) is there] for there in (False, True))
    assert list(other.curve) == [*losses, *validations]
    for field in dataclasses.fields(Run):
        if field.name not in ("results", "questions", "curve", "path"):
            assert getattr(one, field.name) == getattr(other, field.name), field.name


def _tables(run: Run) -> list[str]:
    tables = grid_tables(gather_grid([run], GridDescription()))
    return [form(table) for table in tables for form in (csv_text, markdown)]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("full")
    return read_record_folder(write_record(folder, Spec(alpha=0.5, seed=2, unseen=("cc",)), num_questions=7))


@pytest.fixture(scope="module")
def written(full: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("written") / "a.record.json"
    write_record_file(full, path)
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_record_says_of_a_run_what_the_full_one_said(full: Run, tmp_path: Path) -> None:
    write_record_file(full, tmp_path / "a.record.json")
    run = read_record_file(tmp_path / "a.record.json")
    assert run.path == tmp_path / "a.record.json"
    _assert_same(full, run)
    assert _tables(run) == _tables(full)
    write_record_file(run, tmp_path / "again.record.json")
    assert (tmp_path / "again.record.json").read_bytes() == (tmp_path / "a.record.json").read_bytes()


def test_a_record_that_version_0_1_0_wrote_is_read_and_is_what_the_repository_keeps_of_it() -> None:
    _assert_same(read_record_folder(WRITTEN_BEFORE), read_record_file(RECORDED / f"{WRITTEN_BEFORE.name}.record.json"))


@settings(max_examples=50, deadline=None)
@given(
    figures=arrays.arrays(
        np.float32, st.integers(1, 230), elements=st.floats(width=32, allow_infinity=False, allow_nan=True)
    )
)
def test_figures_of_questions_keep_every_bit(
    full: Run, tmp_path_factory: pytest.TempPathFactory, figures: np.ndarray
) -> None:
    figures = np.where(np.isnan(figures), np.float32(np.nan), figures)  # one of the many that are no number
    questions = dataclasses.replace(full.questions["xquad-r"], **dict.fromkeys(QUESTION_FIGURES, figures))
    path = tmp_path_factory.mktemp("figures") / "a.record.json"
    write_record_file(dataclasses.replace(full, questions={"xquad-r": questions}), path)
    read = read_record_file(path).questions["xquad-r"]
    for name in QUESTION_FIGURES:
        assert getattr(read, name).tobytes() == figures.tobytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_value_is_named_or_makes_tables(
    written: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    value, keys = data.draw(mutated(written))
    path = tmp_path_factory.mktemp("changed") / "a.record.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    run = read_or_named(lambda: read_record_file(path), str(path), keys)
    for table in _tables(run) if run else ():
        table.encode("utf-8")


def test_the_lines_of_a_record_are_few_and_tell_the_run_first(full: Run, tmp_path: Path) -> None:
    write_record_file(full, tmp_path / "a.record.json")
    lines = (tmp_path / "a.record.json").read_text(encoding="utf-8").splitlines()
    assert lines[2:4] == [' "name": "hybrid0.5--mini-xlmr-no-cc--seed2",', ' "start": "mini-xlmr",']
    assert len(lines) < 150


def test_the_configuration_is_read_without_the_figures(full: Run, tmp_path: Path) -> None:
    write_record_file(full, tmp_path / "a.record.json")
    assert read_record_config(tmp_path / "a.record.json") == (full.config, "a" * 64, ("mlqa-r", "tatoeba", "xquad-r"))
    (tmp_path / "a.record.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.record\.json: malformed JSON"):
        read_record_config(tmp_path / "a.record.json")


def test_a_form_of_another_version_is_refused(written: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.record.json").write_text(json.dumps(written | {"record": 2}), encoding="utf-8")
    with pytest.raises(UserError, match="'record' is 2; expected 1, the form of records that this version reads"):
        read_record_file(tmp_path / "a.record.json")


def test_a_record_keeps_the_removal_of_language_bias(full: Run, tmp_path: Path) -> None:
    removal = {"method": "centre", "options": {}, "model": "m", "corpora": [{"name": "c"}], "languages": ["aa"]}
    results = {task: dataclasses.replace(one, debias=removal) for task, one in full.results.items()}
    write_record_file(dataclasses.replace(full, results=results), tmp_path / "a.record.json")
    assert [one.debias for one in read_record_file(tmp_path / "a.record.json").results.values()] == [removal] * 3


def test_metrics_that_differ_from_pair_to_pair_cannot_be_recorded(full: Run, tmp_path: Path) -> None:
    results = full.results["mlqa-r"]
    assert isinstance(results, PairResults)
    pairs = {x: {y: dict(cell) for y, cell in row.items()} for x, row in results.pairs.items()}
    pairs["aa"]["bb"]["ndcg"] = 0.5
    changed = dataclasses.replace(full, results={"mlqa-r": dataclasses.replace(results, pairs=pairs)})
    with pytest.raises(UserError, match="not all language pairs have ndcg"):
        write_record_file(changed, tmp_path / "a.record.json")
    assert not list(tmp_path.iterdir())
