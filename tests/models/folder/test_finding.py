"""What a folder that holds no model is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.models.folder.finding import check_holds_model


def test_the_folder_of_a_training_run_is_answered_with_its_encoders(tmp_path: Path) -> None:
    for name in ("initial", "final"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds no model.*folder of a training run: give \S+/final$"):
        check_holds_model(tmp_path)


def test_any_other_folder_is_answered_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json; weights .*; a tokenizer \(tokenizer\.json\)$"):
        check_holds_model(tmp_path)
