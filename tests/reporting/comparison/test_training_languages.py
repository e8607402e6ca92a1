"""The languages of a training run, from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hybatch.reporting.comparison.training_languages import training_languages


def _run(tmp_path: Path, corpora: list[dict[str, Any]], **sampling: Any) -> str:
    (tmp_path / "run" / "final").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"corpora": corpora, "sampling": sampling}))
    return str(tmp_path / "run" / "final")


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    (tmp_path / "corpus").mkdir()
    for language in ("de", "en"):
        (tmp_path / "corpus" / f"{language}.jsonl").write_text("")
    return str(tmp_path / "corpus")


def test_they_are_those_of_all_corpora_less_the_excluded(tmp_path: Path, corpus: str) -> None:
    model = _run(tmp_path, [{"path": "x", "languages": ["ar", "en"]}, {"path": corpus}], exclude_languages=["ar"])
    assert training_languages(model) == ["de", "en"]


def test_those_of_the_sampling_decide(tmp_path: Path) -> None:
    assert training_languages(_run(tmp_path, [{"path": "gone"}], languages=["th", "de"])) == ["de", "th"]


def test_a_corpus_that_is_not_here_leaves_them_unknown(tmp_path: Path, corpus: str) -> None:
    assert training_languages(_run(tmp_path, [{"path": corpus}, {"path": "$NOT_SET_HERE/gone"}])) is None


def test_a_model_outside_of_a_run_has_unknown_ones(tmp_path: Path) -> None:
    assert training_languages("sentence-transformers/LaBSE") is None
    (tmp_path / "config.yaml").write_text("something: else")
    assert training_languages(str(tmp_path / "model")) is None
