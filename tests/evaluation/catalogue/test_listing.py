"""--list-tasks says of every task what a person needs to choose one, and every task can name its missing files."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.entry import TaskEntry
from hybatch.evaluation.catalogue.registry import TASKS, load_task
from hybatch.evaluation.command import evaluate


def test_every_task_is_listed_with_its_licence_before_any_option_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        evaluate(["--list-tasks"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in TASKS)
    assert "CC BY-SA 4.0" in printed


@pytest.mark.parametrize("entry", TASKS.values(), ids=TASKS)
def test_every_task_says_all_that_the_list_shows(entry: TaskEntry) -> None:
    assert all((entry.summary, entry.settings, entry.metric, entry.source, entry.licence))
    assert bool(entry.download) == (entry.needs_data and entry.name not in ("parallel", "beir-like"))


@pytest.mark.parametrize("name", [name for name, entry in TASKS.items() if entry.download])
def test_absent_files_are_answered_with_the_layout_and_the_address(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_task(name, tmp_path)
    message = str(caught.value)
    assert f"task {name.removesuffix('-xtreme')}" in message
    assert TASKS[name].download in message
    assert "--data-dir" in message
