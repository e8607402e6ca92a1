"""A teacher's scores in a corpus: read back beside what they are of, and refused where they cannot be right."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybatch.corpus import CorpusConfig, open_corpus
from hybatch.errors import UserError
from tests.corpus.layouts import opened, write_jsonl

SCORES = st.none() | st.floats(-1e9, 1e9) | st.integers(-100, 100)


@st.composite
def _rows(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    """Rows of two languages in unlike orders, of which some lack a passage, negatives, scores, or one of the scores."""
    corpus: dict[str, list[dict[str, Any]]] = {}
    for language in ("de", "en"):
        rows = []
        for number in draw(st.permutations(range(draw(st.integers(1, 6))))):
            row: dict[str, Any] = {
                "id": str(number),
                "question": f"{language} {number}?",
                "passage": f"{language} {number}",
            }
            negatives = draw(st.integers(0, 3))
            if negatives:
                row["negatives"] = [f"{language} {number} not {place}" for place in range(negatives)]
            if draw(st.booleans()):
                row["scores"] = draw(st.lists(SCORES, min_size=1 + negatives, max_size=1 + negatives))
            rows.append(row)
        corpus[language] = rows
    return corpus


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_rows())
def test_every_score_stands_beside_its_text_and_what_is_missing_is_nan(
    rows: dict[str, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    corpus = opened(write_jsonl(folder / "data", rows), folder / "cache")
    number = {identifier: example for example, identifier in enumerate(corpus.ids(slice(None)))}
    assert corpus.has_scores == any("scores" in row for of in rows.values() for row in of)
    missing = total = 0
    for place, language in enumerate(corpus.languages):
        examples = [number[row["id"]] for row in rows[language]]
        found = corpus.scores(examples, [place] * len(examples))
        for row, scores in zip(rows[language], found, strict=True):
            negatives = row.get("negatives", [])
            expected = row.get("scores", [None] * (1 + len(negatives)))
            assert scores == pytest.approx([math.nan if score is None else score for score in expected], nan_ok=True)
            if negatives:
                missing += expected.count(None)
                total += len(expected)
    assert corpus.missing_scores() == (missing, total)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.5], "1 scores of a passage and 2 negatives; give one of the passage and, after it, one of each negative"),
        ([0.5, 0.1, 0.2, 0.3], "4 scores of a passage and 2 negatives"),
        ([0.5, "0.1", 0.2], "scores must be a list of finite numbers, null for one that is not known"),
        ([0.5, True, 0.2], "scores must be a list of finite numbers"),
        ([0.5, math.nan, 0.2], "scores must be a list of finite numbers"),
        ([0.5, 10**400, 0.2], "scores must be a list of finite numbers"),
        (0.5, "scores must be a list of finite numbers"),
    ],
)
def test_scores_that_cannot_be_right_are_named_with_file_and_line(
    scores: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBATCH_CACHE_DIR", str(tmp_path / "cache"))
    good = {"id": "1", "question": "Wo?", "passage": "Dort.", "negatives": ["Nie.", "Hier."], "scores": [1, 0, -1.5]}
    write_jsonl(tmp_path / "data", {"de": [good, {**good, "id": "2", "scores": scores}]})
    with pytest.raises(UserError, match=message) as error:
        open_corpus(CorpusConfig(path=str(tmp_path / "data")), progress=False)
    assert str(error.value).startswith(f"{tmp_path / 'data' / 'de.jsonl'}:2: ")
