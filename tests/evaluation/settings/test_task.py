"""What a task may be, and how labels make one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.settings.task import LabelledTexts, RetrievalTask, join_by_label

VALID: dict[str, Any] = {
    "name": "t",
    "languages": ("aa", "bb"),
    "queries": {"aa": ["q0", "q1"], "bb": ["q0"]},
    "candidates": {"aa": ["c0"], "bb": ["c0", "c1"]},
    "positives": {"aa": [[0, 2], []], "bb": [[1]]},
}


def test_candidates_are_numbered_language_by_language() -> None:
    task = RetrievalTask(**VALID)
    assert task.num_candidates == 3
    np.testing.assert_array_equal(task.candidate_groups(), [0, 1, 1])


def test_positives_come_as_one_array_with_offsets() -> None:
    positives, offsets = RetrievalTask(**VALID).positives_of("aa")
    np.testing.assert_array_equal(positives, [0, 2])
    np.testing.assert_array_equal(offsets, [0, 2, 2])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"languages": ("bb", "aa")}, "alphabetical"),
        ({"languages": ()}, "alphabetical"),
        ({"queries": {"aa": ["q0", "q1"]}}, "exactly the languages"),
        ({"positives": {"aa": [[0]], "bb": [[1]]}}, "2 queries, 1 positives"),
        ({"positives": {"aa": [[0, 3], []], "bb": [[1]]}}, "outside the pool"),
        ({"positives": {"aa": [[-1], []], "bb": [[1]]}}, "outside the pool"),
        ({"positives": {"aa": [[0, 0], []], "bb": [[1]]}}, "twice"),
        ({"positives": {"aa": [[], []], "bb": [[]]}}, "no query has a positive"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetrievalTask(**{**VALID, **changed})


def test_positives_join_by_label_in_every_language() -> None:
    texts = {
        "bb": LabelledTexts(["q"], ["1"], ["x", "y", "z"], [["2"], ["1"], ["1", "1"]]),
        "aa": LabelledTexts(["q", "r"], ["1", "9"], ["x", "y"], [["1", "2"], []]),
    }
    task = join_by_label("joined", texts)
    assert task.languages == ("aa", "bb")
    assert task.positives == {"aa": [[0, 3, 4], []], "bb": [[0, 3, 4]]}


def test_texts_that_never_meet_are_refused() -> None:
    with pytest.raises(UserError, match="nothing to measure"):
        join_by_label("apart", {"aa": LabelledTexts(["q"], ["1"], ["c"], [["2"]])})
