"""The vectors of a guide: those that the encoder gives, made once, whole or not there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybatch.corpus import CorpusConfig, ParallelCorpus, open_corpus
from hybatch.errors import UserError
from hybatch.evaluation.encoding.encode import encode_texts
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, build_encoder
from hybatch.training.step import guide
from hybatch.training.step.guide import GuideTable, check_guide, open_guide
from hybatch.training.texts import texts_in_role
from tests.corpus.layouts import write_jsonl

ROWS = {
    "de": [
        {"id": "1", "question": "Wo?", "passage": "Dort.", "negatives": ["Nie.", "Hier."]},
        {"id": "2", "question": "Wann?", "passage": "Heute."},
    ],
    "en": [{"id": "1", "question": "Where?", "passage": "There."}, {"id": "2", "question": "When?"}],
}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ParallelCorpus:
    monkeypatch.setenv("HYBATCH_CACHE_DIR", str(tmp_path / "cache"))
    write_jsonl(tmp_path / "data", ROWS)
    return open_corpus(CorpusConfig(path=str(tmp_path / "data")), progress=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fresh = FreshBackboneConfig(width=16, layers=1, heads=2, vocabulary_size=300, dropout=0.0)
    texts = [text for rows in ROWS.values() for row in rows for text in row.values() if isinstance(text, str)] * 20
    folder = tmp_path_factory.mktemp("guide") / "model"
    build_encoder(EncoderConfig(fresh=fresh), seed=1, texts=texts).save(folder)
    return folder


def _open(model: Path, corpus: ParallelCorpus, languages: tuple[str, ...] = ("de", "en"), **changed: Any) -> GuideTable:
    options: dict[str, Any] = {"roles": ["query", "passage"], "hard_negatives": True, "say": lambda line: None}
    return open_guide(str(model), [corpus], languages, device=torch.device("cpu"), **options | changed)


def test_the_vectors_are_the_encoders_own_in_the_role_that_the_text_has(model: Path, corpus: ParallelCorpus) -> None:
    table, encoder = _open(model, corpus), Encoder.load(model)
    for role in ("query", "passage"):
        texts = sorted(set(texts_in_role([corpus], ("de", "en"), role, True)))  # type: ignore[arg-type]
        expected = encode_texts(encoder, texts, role, batch_size=8, progress=False)  # type: ignore[arg-type]
        np.testing.assert_allclose(table.vectors(texts, role), expected, atol=1e-6)  # type: ignore[arg-type]
    vectors = table.of_batch(["Wo?", "When?"], "query", ["Dort.", "There."], {2: "Nie.", 1: "Hier."}, 2)
    assert vectors.negatives_QNG is not None
    assert vectors.queries_QG.shape == vectors.passages_QG.shape == (2, 16)
    assert not vectors.negatives_QNG[0, 0].any()
    assert torch.equal(vectors.negatives_QNG[1, 0], torch.from_numpy(table.vectors(["Nie."], "passage")[0]))


def test_they_are_made_once_and_anew_only_for_other_texts_or_another_guide(
    model: Path, corpus: ParallelCorpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _open(model, corpus)

    def encode(*args: Any, **kwargs: Any) -> np.ndarray:
        raise UserError("encodes again")

    monkeypatch.setattr(guide, "encode_distinct", encode)
    _open(model, corpus)
    other = shutil.copytree(model, tmp_path / "other")
    _open(other, corpus)  # the same content under another path
    (other / "README.md").write_text("another card", encoding="utf-8")
    for changed in ((other, ("de", "en")), (model, ("de",))):
        with pytest.raises(UserError, match="encodes again"):
            _open(changed[0], corpus, changed[1])


def test_an_interruption_leaves_nothing_that_passes_for_a_table(
    model: Path, corpus: ParallelCorpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    encode, calls = guide.encode_distinct, []

    def interrupted(*args: Any, **kwargs: Any) -> np.ndarray:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(*args, **kwargs)

    monkeypatch.setattr(guide, "encode_distinct", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _open(model, corpus)
    assert [
        path for path in (tmp_path / "cache" / "guides").rglob("*") if path.is_file() and ".lock" not in path.name
    ] == []
    assert _open(model, corpus).vectors(["Wo?"], "query").shape == (1, 16)


def test_a_text_that_the_table_was_made_without_is_named(model: Path, corpus: ParallelCorpus) -> None:
    with pytest.raises(KeyError, match="Nie"):
        _open(model, corpus, hard_negatives=False).vectors(["Dort.", "Nie."], "passage")


def test_a_guide_that_is_none_is_refused_before_the_work_begins(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        check_guide(str(tmp_path / "empty"))
