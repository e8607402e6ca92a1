"""A record is read whole, or refused with the name of the file and of what is wrong in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.settings.per_query import read_query_tables, write_query_tables
from hybatch.reporting.figures.curves import learning_curves
from hybatch.reporting.grids.record_folder import read_record_folder
from hybatch.reporting.grids.records import ids_digest
from tests.reporting.grids.synthetic import Spec, change_questions, write_record


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return write_record(tmp_path, Spec(alpha=0.5, seed=2, unseen=("cc",)))


def _change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_every_field_and_file_of_a_record_is_read(record: Path) -> None:
    run = read_record_folder(record)
    assert (run.start, run.sampling, run.alpha, run.seed, run.unseen_languages) == (
        "mini-xlmr",
        "hybrid",
        0.5,
        2,
        ("cc",),
    )
    assert (run.steps, run.chosen_step, run.selection_loss) == (400, 320, 1.2)
    assert run.path == record / "study.json"
    assert list(run.results) == ["mlqa-r", "tatoeba", "xquad-r"]
    assert list(run.questions) == ["mlqa-r", "xquad-r"]
    assert set(learning_curves(run.curve)) == {"training loss", "validation loss"}


def test_the_questions_average_to_the_results_of_a_parallel_task(record: Path) -> None:
    run = read_record_folder(record)
    questions, summary = run.questions["xquad-r"], run.results["xquad-r"].summary
    for setting in ("monolingual", "cross_lingual", "multilingual"):
        assert getattr(questions, setting).mean() == pytest.approx(summary[setting]["map"], abs=1e-6)
    assert questions.ids_sha256 == ids_digest([f"q{n:05}" for n in range(40)])
    assert questions.rank_distance.dtype == np.float32


def test_a_run_without_evaluations_or_metrics_is_a_run(record: Path) -> None:
    for path in (*record.glob("*/*"), record / "metrics.jsonl"):
        path.unlink()
    run = read_record_folder(record)
    assert (run.results, run.questions, run.curve) == ({}, {}, ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", "1"),
        ("seed", True),
        ("seed", -1),
        ("sampling", ["hybrid"]),
        ("alpha", 1.5),
        ("alpha", None),
        ("selection_loss", float("nan")),
        ("backbone_sha256", "abc"),
        ("unseen_languages", "el"),
        ("chosen_step", 401),
        ("steps", 1.5),
        ("start", ""),
        ("config", None),
        ("versions", []),
    ],
)
def test_a_wrong_field_is_named_with_its_file(record: Path, field: str, value: Any) -> None:
    _change(record / "study.json", **{field: value})
    with pytest.raises(UserError, match=rf"study\.json: '{field}'"):
        read_record_folder(record)


def test_a_missing_field_is_named(record: Path) -> None:
    fields = json.loads((record / "study.json").read_text())
    del fields["chosen_step"]
    (record / "study.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match=r"study\.json: 'chosen_step' is missing"):
        read_record_folder(record)


def test_random_weights_have_no_backbone(record: Path) -> None:
    _change(record / "study.json", start="recipe", backbone_sha256=None, commit=None)
    assert read_record_folder(record).backbone_sha256 is None


def test_only_hybrid_has_an_alpha(record: Path) -> None:
    _change(record / "study.json", sampling="x-y")
    with pytest.raises(UserError, match=r"'alpha' is 0\.5; .* which is 'x-y'"):
        read_record_folder(record)


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_a_damaged_study_json_is_named(record: Path, text: str) -> None:
    (record / "study.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"study\.json: (malformed|is \[\]; expected an object|cannot be read)"):
        read_record_folder(record)


def test_results_in_the_folder_of_another_task_are_refused(record: Path) -> None:
    (record / "mlqa-r").rename(record / "belebele")
    with pytest.raises(UserError, match=r"belebele/results\.json: 'task' is 'mlqa-r'"):
        read_record_folder(record)


@pytest.mark.parametrize("key", ["pairs", "multilingual", "summary"])
def test_results_that_lack_a_languages_figures_are_refused(record: Path, key: str) -> None:
    path = record / "xquad-r" / "results.json"
    _change(path, **{key: dict(list(json.loads(path.read_text())[key].items())[1:])})
    with pytest.raises(UserError, match=rf"xquad-r/results\.json: '{key}\.\w+' is missing"):
        read_record_folder(record)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"languages": np.array(["aa", "bb"])}, "'languages' are aa bb"),
        ({"ids": np.array(["q"] * 40)}, "'ids' are not sorted"),
        ({"rank_distance": np.zeros(39, dtype=np.float32)}, "'rank_distance' is"),
        ({"monolingual": np.full(40, np.inf, dtype=np.float32)}, "'monolingual' is"),
        ({"cross_lingual": np.zeros(40, dtype=np.int64)}, "'cross_lingual' is"),
    ],
)
def test_wrong_questions_are_named_with_their_file(record: Path, changes: dict[str, Any], told: str) -> None:
    change_questions(record / "xquad-r" / "questions.npz", **changes)
    with pytest.raises(UserError, match=rf"xquad-r/questions\.npz: {told}"):
        read_record_folder(record)


def test_a_missing_table_of_questions_is_named(record: Path) -> None:
    path = record / "xquad-r" / "questions.npz"
    with np.load(path) as archive:
        tables = {name: archive[name] for name in archive.files if name != "multilingual"}
    np.savez(path, **tables)
    with pytest.raises(UserError, match=r"xquad-r/questions\.npz: lacks multilingual"):
        read_record_folder(record)


def test_a_cut_off_questions_file_is_named(record: Path) -> None:
    path = record / "mlqa-r" / "questions.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"mlqa-r/questions\.npz: damaged"):
        read_record_folder(record)


def test_a_questions_file_with_a_wrong_byte_is_named(record: Path) -> None:
    path = record / "mlqa-r" / "questions.npz"
    tables = read_query_tables(path)
    write_query_tables(path, tables)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mlqa-r/questions\.npz: damaged"):
        read_record_folder(record)
