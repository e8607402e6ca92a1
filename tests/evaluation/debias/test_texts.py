"""Which texts the means are taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybatch.corpus import CorpusConfig, ParallelCorpus, open_corpus
from hybatch.errors import UserError
from hybatch.evaluation.debias.texts import draw_texts
from tests.evaluation.synthetic import write_jsonl


def _corpus(folder: Path, examples: dict[str, list[int]]) -> ParallelCorpus:
    """Language -> the examples that it has."""
    rows = {
        x: [{"id": f"{i}", "question": f"{x} asks {i}", "passage": f"{x} says {i}"} for i in listed]
        for x, listed in examples.items()
    }
    write_jsonl(folder, rows)
    return open_corpus(CorpusConfig(path=str(folder)), progress=False)


def _numbers(texts: list[str]) -> list[int]:
    return [int(text.split()[-1]) for text in texts]


def test_examples_that_every_language_has_go_first_and_lie_spread_over_the_corpus(tmp_path: Path) -> None:
    corpus = _corpus(tmp_path / "c", {"de": list(range(0, 40, 2)), "en": list(range(40))})
    texts = draw_texts([corpus], None, 5)
    for of_language in texts.values():
        assert _numbers(of_language["de"]) == _numbers(of_language["en"]) == [0, 8, 16, 24, 32]
    more = draw_texts([corpus], None, 25)["query"]
    assert _numbers(more["de"]) == list(range(0, 40, 2))
    assert _numbers(more["en"]) == [*range(0, 40, 2), 1, 9, 17, 25, 33]


def test_each_corpus_gives_its_share_of_the_languages_that_it_has(tmp_path: Path) -> None:
    one = _corpus(tmp_path / "one", {"de": [0, 1, 2], "en": [0, 1, 2]})
    two = _corpus(tmp_path / "two", {"en": [2, 7, 8], "fr": [2, 7, 8]})
    texts = draw_texts([one, two], None, 2)["passage"]
    assert {x: _numbers(listed) for x, listed in texts.items()} == {"de": [0, 1], "en": [0, 1, 2, 7], "fr": [2, 7]}
    assert list(draw_texts([one, two], ["fr", "de"], 2)["query"]) == ["de", "fr"]


def test_equal_texts_of_a_language_count_once(tmp_path: Path) -> None:
    one = _corpus(tmp_path / "one", {"de": [0, 1], "en": [0, 1]})
    two = _corpus(tmp_path / "two", {"de": [1, 2], "en": [1, 2]})
    assert _numbers(draw_texts([one, two], None, 9)["query"]["de"]) == [0, 1, 2]


def test_a_language_without_questions_is_named(tmp_path: Path) -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "de": [{"id": "0", "question": "wer?", "passage": "Rom"}],
        "en": [{"id": "0", "passage": "Rome"}],
    }
    write_jsonl(tmp_path / "c", rows)
    corpus = open_corpus(CorpusConfig(path=str(tmp_path / "c")), progress=False)
    with pytest.raises(UserError, match="--fit c: no question in en; leave it out of --languages, or add a corpus"):
        draw_texts([corpus], None, 3)
