"""The table of parallel questions against a plain loop over them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.evaluation.settings.per_query import QueryTables
from study.questions import question_tables

LANGUAGES = ["de", "en", "zh"]
_FIGURE = st.one_of(st.just(float("nan")), st.floats(0, 1, width=32))


@st.composite
def per_query_tables(draw: st.DrawFn) -> QueryTables:
    tables: QueryTables = {"languages": np.array(LANGUAGES)}
    for language in LANGUAGES:
        ids = draw(st.lists(st.sampled_from("abcdef"), unique=True))
        rows = st.lists(_FIGURE, min_size=4, max_size=4)
        table = draw(st.lists(rows, min_size=len(ids), max_size=len(ids)))
        distances = draw(st.lists(_FIGURE, min_size=len(ids), max_size=len(ids)))
        tables[f"ids/{language}"] = np.array(ids, dtype=np.str_)
        tables[f"map/{language}"] = np.array(table, dtype=np.float64).reshape(len(ids), 4)
        tables[f"rank_distance/{language}"] = np.array(distances, dtype=np.float64)
    return tables


def mean_or_nan(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")


def oracle(tables: QueryTables) -> dict[str, dict[str, float]]:
    """Question id -> figure -> value."""
    values: dict[str, dict[str, list[float]]] = {}
    for place, language in enumerate(LANGUAGES):
        for row, question in enumerate(tables[f"ids/{language}"]):
            names = ("monolingual", "cross_lingual", "multilingual", "rank_distance")
            figures = values.setdefault(str(question), {name: [] for name in names})
            for other in range(len(LANGUAGES)):
                setting = "monolingual" if other == place else "cross_lingual"
                figures[setting].append(tables[f"map/{language}"][row, other])
            figures["multilingual"].append(tables[f"map/{language}"][row, len(LANGUAGES)])
            figures["rank_distance"].append(tables[f"rank_distance/{language}"][row])
    return {question: {name: mean_or_nan(one) for name, one in f.items()} for question, f in values.items()}


@settings(max_examples=40, deadline=None)
@given(per_query_tables())
def test_each_question_has_the_mean_over_the_languages_and_pairs_that_have_the_figure(tables: QueryTables) -> None:
    expected = oracle(tables)
    measured = question_tables(tables)
    assert measured["ids"].tolist() == sorted(expected)
    assert measured["languages"].tolist() == LANGUAGES
    for name in ("monolingual", "cross_lingual", "multilingual", "rank_distance"):
        assert measured[name].dtype == np.float32
        wanted = [expected[question][name] for question in sorted(expected)]
        np.testing.assert_allclose(measured[name], wanted, rtol=1e-6, atol=1e-12)
