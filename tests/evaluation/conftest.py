"""A small corpus and a tiny encoder for the tests of the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.models import EncoderConfig, FreshBackboneConfig, build_encoder
from tests.evaluation.synthetic import write_jsonl

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.fixture(scope="package")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parallel corpus of three languages; each lacks some passages."""
    folder = tmp_path_factory.mktemp("data") / "corpus"
    write_jsonl(
        folder,
        {
            language: [
                {"id": f"{i}", "question": f"{language} {word}?", "passage": f"{word} {language} is {word * 2} {i}"}
                for i, word in enumerate(WORDS)
                if (i + shift) % 4
            ]
            for shift, language in enumerate(("aa", "bb", "cc"))
        },
    )
    return folder


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder of random weights."""
    config = EncoderConfig(fresh=FreshBackboneConfig(width=16, layers=1, heads=2, vocabulary_size=320, dropout=0.0))
    encoder = build_encoder(config, seed=0, texts=WORDS)
    path = tmp_path_factory.mktemp("model") / "encoder"
    encoder.save(path)
    return path
