"""Texts that training and validation share."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.corpus import CorpusConfig, ParallelCorpus, open_corpus
from hybatch.training.texts import all_texts, some_texts
from hybatch.training.validation.overlap import SharedTexts, count_shared_texts
from tests.training.small_run import write_corpus


def _open(folder: Path) -> ParallelCorpus:
    return open_corpus(CorpusConfig(path=str(folder)), progress=False)


def test_shared_texts_are_counted_once_and_whatever_their_role(tmp_path: Path) -> None:
    training = _open(write_corpus(tmp_path / "train", examples=50, languages="de en"))
    validation = _open(write_corpus(tmp_path / "held-out", first=40, examples=30))
    texts, training_texts = set(all_texts([validation])), set(all_texts([training]))
    expected = SharedTexts(len(texts), len(texts & training_texts))
    # Ten examples, a question and a passage each, in two languages.
    assert expected.shared == 40
    assert count_shared_texts(training, validation, progress=False) == expected


def test_the_second_count_reads_no_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = _open(write_corpus(tmp_path / "train", examples=21))
    validation = _open(write_corpus(tmp_path / "held-out", first=20, examples=11))
    first = count_shared_texts(training, validation, progress=False)
    monkeypatch.setattr(ParallelCorpus, "questions", None)
    assert count_shared_texts(training, validation, progress=False) == first


def test_some_texts_are_about_as_many_as_asked_for_and_from_every_language(tmp_path: Path) -> None:
    corpus = _open(write_corpus(tmp_path / "train", examples=2000))
    texts = list(some_texts([corpus], ["de", "en"], 400))
    assert 380 <= len(texts) <= 460
    assert len(list(some_texts([corpus], ["de", "en"], 10**6))) == 8000
    assert {text.split()[0] for text in texts} >= {"rot", "red"}
    assert not any("casa" in text for text in texts)
