"""`hybatch score` from the command line: what it fills, what it leaves, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybatch.cli import main
from hybatch.corpus import CorpusConfig, open_corpus
from hybatch.evaluation.mining import score
from hybatch.evaluation.teacher import open_teacher
from tests.corpus.layouts import write_jsonl
from tests.evaluation.cross_encoders import write_cross_encoder

ROWS: dict[str, list[dict[str, Any]]] = {
    "de": [
        {"id": "1", "question": "Wo?", "passage": "Dort.", "negatives": ["Nie.", "Hier."], "source": "mine"},
        {"id": "2", "question": "Wann?"},
        {"id": "3", "passage": "Gestern.", "negatives": ["Morgen."]},
    ],
    "en": [{"id": "1", "question": "Where?", "passage": "There.", "scores": [7]}],
}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYBATCH_CACHE_DIR", str(tmp_path / "cache"))
    return write_jsonl(tmp_path / "data", ROWS)


def _read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    }


def _score(model: Path, corpus: Path, output: Path, *more: str) -> int:
    return main(["score", "--teacher", str(model), "--corpus", str(corpus), "--output", str(output), *more])


@pytest.mark.parametrize("kind", ["encoder", "cross-encoder"])
def test_every_row_with_question_and_passage_gets_its_scores_and_all_else_stays(
    kind: str, model: Path, corpus: Path, tmp_path: Path
) -> None:
    if kind == "cross-encoder":
        pytest.importorskip("sentence_transformers")
    teacher = model if kind == "encoder" else write_cross_encoder(tmp_path / "cross", model)
    assert _score(teacher, corpus, tmp_path / "scored") == 0
    found = _read(tmp_path / "scored")
    expected = open_teacher(str(teacher)).scores(
        ["Wo?"] * 3 + ["Where?"], ["Dort.", "Nie.", "Hier.", "There."], batch_size=4, progress=False
    )
    np.testing.assert_allclose(found["de"][0].pop("scores"), expected[:3], atol=1e-5)
    np.testing.assert_allclose(found["en"][0].pop("scores"), expected[3:], atol=1e-5)
    old = {
        language: [{k: v for k, v in row.items() if k != "scores"} for row in rows] for language, rows in ROWS.items()
    }
    assert found == old
    assert open_corpus(CorpusConfig(path=str(tmp_path / "scored")), progress=False).missing_scores() == (2, 5)
    report = json.loads((tmp_path / "scored" / "scoring.json").read_text(encoding="utf-8"))
    assert (report["rows"], report["scores"]) == (2, {"de": 3, "en": 1})


def test_an_interruption_leaves_nothing_and_a_scored_corpus_is_replaced_only_when_asked(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scored"
    with monkeypatch.context() as patch:

        def interrupted(*args: Any) -> str:
            raise KeyboardInterrupt

        patch.setattr(score, "dump", interrupted)
        assert _score(model, corpus, output) == 130
    assert not output.exists()
    assert _score(model, corpus, output) == 0
    assert _score(model, corpus, output) == 2
    assert "holds a corpus that hybatch score has written" in capsys.readouterr().err
    assert _score(model, corpus, output, "--overwrite") == 0


def test_a_corpus_with_nothing_to_score_and_one_that_is_the_output_are_refused_before_the_teacher_is_loaded(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    assert _score(nowhere, corpus, corpus) == 2
    assert "must be a folder apart from --corpus" in capsys.readouterr().err
    apart = write_jsonl(tmp_path / "apart", {"de": [{"id": "1", "question": "Wo?"}, {"id": "2", "passage": "Da."}]})
    assert _score(nowhere, apart, tmp_path / "out") == 2
    assert "no row has both a question and a passage" in capsys.readouterr().err
    assert _score(nowhere, corpus, tmp_path / "out") == 2
    assert "nowhere: there is no such folder" in capsys.readouterr().err
