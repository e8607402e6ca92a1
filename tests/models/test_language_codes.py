from __future__ import annotations

import pytest

from hybatch.evaluation.tasks.tatoeba import XTREME_LANGUAGES
from hybatch.models.language_codes import same_language
from hybatch.reporting.comparison.language_facts import UNKNOWN, language_facts


@pytest.mark.parametrize("code", XTREME_LANGUAGES)
def test_codes_of_three_letters_name_the_languages_that_reports_take_them_for(code: str) -> None:
    facts = language_facts(code)
    assert facts.family != UNKNOWN
    assert same_language(code) == facts.code


def test_a_code_that_has_no_shorter_one_stays() -> None:
    assert [same_language(code) for code in ("de", "ang", "xx", "zh-TW", "cmn")] == ["de", "ang", "xx", "zh-TW", "zh"]
