"""Answers within the first thousands of tokens."""

from __future__ import annotations

import sys
from pathlib import Path

import nltk
import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.collection.judgements import QuerySet
from hybatch.evaluation.collection.token_recall import holds_answer, per_query, word_tokenizer
from tests.evaluation.collection.fakes import Fake, fake_passages


@pytest.mark.parametrize(
    ("limit", "answers", "expected"),
    [
        (5, ["Kiel"], True),
        (4, ["Kiel"], False),
        (9, ["in Kiel ( Germany )"], True),
        (9, ["Kiel (Germany)"], False),
        (9, ["Bonn", "1,200"], True),
        (9, ["Bonn", ""], False),
    ],
)
def test_an_answer_counts_up_to_the_limit_as_it_stands(limit: int, answers: list[str], expected: bool) -> None:
    _, tokenize = word_tokenizer()
    tokens = [t for text in ("It cost 1,200", "in", "Kiel (Germany) and Bonn") for t in tokenize(text)]
    assert holds_answer(tokens[:limit], answers) is expected


def test_tokens_are_those_of_nltk() -> None:
    _, tokenize = word_tokenizer()
    assert tokenize("They don't say 3.5% in \"Kiel\".") == [
        "They", "do", "n't", "say", "3.5", "%", "in", "``", "Kiel", "''", "."
    ]  # fmt: skip


def test_a_full_stop_is_a_token_where_a_sentence_ends() -> None:
    _, tokenize = word_tokenizer()
    assert tokenize('He left. She (J. Smith) said "No." Then 3.5 m of approx. 4 m remained in the U.S. of it.') == [
        "He", "left", ".", "She", "(", "J.", "Smith", ")", "said", "``", "No", ".", "''", "Then", "3.5", "m", "of",
        "approx.", "4", "m", "remained", "in", "the", "U.S.", "of", "it", "."
    ]  # fmt: skip


def test_sentences_are_split_as_the_publisher_does_where_punkts_data_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nltk.data, "find", lambda resource: resource)
    assert word_tokenizer() == ("word_tokenize", nltk.word_tokenize)


def test_without_nltk_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(UserError, match=r"pip install 'hybatch\[xor\]'"):
        word_tokenizer()


def test_queries_with_yes_and_no_alone_are_left_out(tmp_path: Path) -> None:
    passages = fake_passages(tmp_path, Fake({"a": "word " * 1999 + "end", "b": "late", "c": "never"}, {}, {}))
    asked = QuerySet(["1", "2", "3"], ["", "", ""], [{}, {}, {}], [["end"], ["yes"], ["no", "late"]])
    found = per_query(("recall@2kt", "recall@5kt"), asked, passages, np.array([[0, 1], [0, 1], [0, 1]]))
    np.testing.assert_array_equal(found["recall@2kt"], [1, np.nan, 0])
    np.testing.assert_array_equal(found["recall@5kt"], [1, np.nan, 1])
