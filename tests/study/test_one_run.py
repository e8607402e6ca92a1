"""What a run's stages say of themselves."""

from __future__ import annotations

import pytest

from hybatch.evaluation.tasks.tatoeba import XTREME_LANGUAGES
from study.one_run import LANGUAGES, duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_a_duration_is_said_in_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_tatoeba_is_evaluated_in_languages_that_it_has() -> None:
    assert set(LANGUAGES["tatoeba"]) <= set(XTREME_LANGUAGES)
    assert len(LANGUAGES["tatoeba"]) == 10
