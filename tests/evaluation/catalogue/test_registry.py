"""Tasks by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task


def test_an_unknown_task_is_answered_with_those_there_are() -> None:
    with pytest.raises(UserError, match="xquad-r, mlqa-r, parallel, embedded"):
        load_task("squad", None)


def test_a_task_on_files_asks_for_their_folder() -> None:
    with pytest.raises(UserError, match="--data-dir DIR or set HYBATCH_DATA_DIR"):
        load_task("xquad-r", None)


def test_a_data_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        load_task("mlqa-r", tmp_path / "nowhere")


def test_a_language_that_the_task_lacks_is_answered_with_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--languages el: not in task mlqa-r, which has ar, de"):
        load_task("mlqa-r", tmp_path, ["el", "de"])


def test_the_embedded_task_needs_no_data_and_asks_every_question_in_every_language() -> None:
    task = load_task("embedded", None)
    assert len(task.languages) == 11
    groups = task.candidate_groups()
    for rows in task.positives.values():
        assert len(rows) >= 160
        assert all(groups[row].tolist() == list(range(11)) for row in rows)
    assert all(len(texts) >= 320 for texts in task.candidates.values())
