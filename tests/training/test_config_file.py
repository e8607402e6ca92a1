"""What a configuration file holds and YAML's readers would lose or stumble over."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.training.config_file import check_config_file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {steps: 5}\nseed: 1\ntraining: {chunk_size: 2}\n", ":3: training stands .*, after line 1;"),
        ("training:\n  steps: 5\n  steps: 6\n", ":3: steps stands here a second time, after line 2;"),
        ("corpora:\n  - path: a\n    path: b\n", ":3: path stands here a second time"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"run.yaml{message}"):
        check_config_file(str(tmp_path / "run.yaml"))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "run.yaml").write_bytes("output_dir: größe".encode(encoding))
    with pytest.raises(UserError, match=r"run\.yaml: not UTF-8 text .*; convert the file to UTF-8"):
        check_config_file(str(tmp_path / "run.yaml"))


@pytest.mark.parametrize(
    "text", ["", "\ufeffseed: 1\n", "a: {b: 1}\nc: {b: 1}\n", "? [a]\n: 1\n? [a]\n: 2\n", "a: [\n"]
)
def test_all_else_is_left_to_the_parser(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    check_config_file(str(tmp_path / "run.yaml"))
    check_config_file(str(tmp_path / "absent.yaml"))
