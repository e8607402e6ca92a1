"""A run belongs to one runner at a time."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hybatch.errors import UserError
from study.claim import claim


def test_a_claim_keeps_others_out_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "run"
    with claim(path) as mine:
        assert mine is not None
        with claim(path) as other:
            assert other is None
        with claim(tmp_path / "locks" / "another") as another:
            assert another is not None
    with claim(path) as again:
        assert again is not None


def test_a_child_that_outlives_its_runner_keeps_the_run(tmp_path: Path) -> None:
    with claim(tmp_path / "run") as mine:
        assert mine is not None
        child = subprocess.Popen(["sleep", "60"], pass_fds=(mine,))
    with claim(tmp_path / "run") as while_it_lives:
        assert while_it_lives is None
    child.kill()
    child.wait()
    with claim(tmp_path / "run") as afterwards:
        assert afterwards is not None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run: cannot be written"), claim(tmp_path / "file" / "run"):
        pass
