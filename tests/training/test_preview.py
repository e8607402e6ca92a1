"""`hybatch batches`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.sampling import KINDS
from hybatch.training.preview import main
from tests.training.small_run import write_config


def test_it_shows_plan_texts_languages_and_truncation_without_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybatch.training.run.assembly.build_encoder", None)
    config = write_config(tmp_path, model={"fresh": {"vocabulary_size": 400}, "passage_max_length": 12})
    assert main(["--config", str(config), "--steps", "4", "--samples", "2"]) == 0
    out = capsys.readouterr().out
    assert "40 steps of 16 examples" in out
    assert "step 1: " in out
    assert "Masked negatives" in out
    assert "60 of the 360 distinct texts" in out
    cut = next(line for line in out.splitlines() if "passage" in line and line.rstrip(" │").endswith("%"))
    assert not cut.rstrip(" │").endswith(" 0.00%")
    assert not (tmp_path / "run").exists()


def test_it_says_what_the_planned_kinds_are_and_shows_their_languages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, sampling={"batch_size": 16, "mixture": {"x-en": 0.5, "en-x": 0.5}})
    assert main(["--config", str(config), "--steps", "4", "--samples", "2"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for kind in ("x-en", "en-x"):
        assert f"{kind}: {KINDS[kind].summary}" in out
        assert f": {kind}, train, mixed" in out
    assert re.search(r"│ (de|es) en +│", out)
    assert re.search(r"│ en (de|es) +│", out)
    assert not re.search(r"│ (de|es) (de|es) +│|│ en en +│", out)


def test_it_shows_translations_as_passages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, sampling={"batch_size": 16, "kind": "bitext"})
    assert main(["--config", str(config), "--steps", "4", "--samples", "2"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "step 1: bitext, train, mixed" in out
    assert "query's language down" in out
    assert "questions │" not in out
    assert not re.search(r"[?] +│", out)  # with which every question ends
    assert re.search(r"│ passage │ 128 │", out)  # on both sides of four batches
    assert not re.search(r"│ query │ [1-9]", out)


def test_it_counts_the_positives_that_a_step_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, sampling={"batch_size": 16, "kind": "x-x-mono"}, loss={"max_positives": 2})
    for file in (tmp_path / "train").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for number, row in enumerate(rows):
            row["positives"] = [f"{row['passage']} {k}" for k in range(number % 2 * 3)] or None
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["--config", str(config), "--steps", "4"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    several, of, listed = (
        int(number) for number in re.findall(r"Positives: (\d+) of (\d+) .* several, (\d+) in", out)[0]
    )
    assert of == 64
    assert listed == 64 + 3 * several
    assert f"at most 4; a step takes {1 + several / 64:.2f} of each on average, at most 2" in out
    assert re.search(rf"│ passage │ {64 + several} │", out)


def test_impossible_options_are_named(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with pytest.raises(UserError, match="--steps"):
        main(["--config", str(config), "--steps", "0"])
    with pytest.raises(UserError, match="batch_size"):
        main(["--config", str(config), "--sampling.batch_size", "500"])
