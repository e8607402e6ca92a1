"""Answers within the first thousands of tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybatch.evaluation.collection.judgements import QuerySet
from hybatch.evaluation.collection.token_recall import holds_answer, per_query
from tests.evaluation.collection.fakes import Fake, fake_passages


@pytest.mark.parametrize(
    ("limit", "answers", "expected"),
    [
        (5, ["Kiel"], True),
        (4, ["Kiel"], False),
        (9, ["in Kiel ( Germany )"], True),
        (9, ["Kiel (Germany)"], True),
        (9, ["Bonn", "1,200"], True),
        (9, ["Bonn", ""], False),
    ],
)
def test_an_answer_counts_up_to_the_limit_and_across_signs(limit: int, answers: list[str], expected: bool) -> None:
    assert holds_answer(["It cost 1,200", "in", "Kiel (Germany) and Bonn"], answers, limit) is expected


def test_queries_with_yes_and_no_alone_are_left_out(tmp_path: Path) -> None:
    passages = fake_passages(tmp_path, Fake({"a": "word " * 1999 + "end", "b": "late", "c": "never"}, {}, {}))
    asked = QuerySet(["1", "2", "3"], ["", "", ""], [{}, {}, {}], [["end"], ["yes"], ["no", "late"]])
    found = per_query(("recall@2kt", "recall@5kt"), asked, passages, np.array([[0, 1], [0, 1], [0, 1]]))
    np.testing.assert_array_equal(found["recall@2kt"], [1, np.nan, 0])
    np.testing.assert_array_equal(found["recall@5kt"], [1, np.nan, 1])
