"""A corpus gives back exactly what its files hold, with the passage groups of the definition."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.layouts import Row, contents, opened, write_jsonl

visible_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5).filter(str.strip)
cell = st.one_of(
    st.fixed_dictionaries({"question": visible_text, "passage": st.sampled_from("pqrs")}),
    st.fixed_dictionaries({"question": visible_text}),
    st.fixed_dictionaries({"passage": st.one_of(visible_text, st.sampled_from("pqrs"))}),
)
rows_by_id = st.dictionaries(st.text("abcdé", min_size=1, max_size=2), cell, min_size=1, max_size=10)
languages = st.dictionaries(st.sampled_from(["ar", "de", "en", "zh"]), rows_by_id, min_size=1)


def as_rows(cells: dict[str, dict[str, str]]) -> list[Row]:
    return [{"id": identifier} | texts for identifier, texts in cells.items()]


@settings(max_examples=30, deadline=None)
@given(languages)
def test_a_corpus_gives_back_exactly_what_was_written(texts: dict[str, dict[str, dict[str, str]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_jsonl(Path(folder, "corpus"), {code: as_rows(cells) for code, cells in texts.items()})
        corpus = opened(path, Path(folder))
        assert corpus.languages == tuple(sorted(texts))
        assert contents(corpus) == {
            code: {identifier: (row.get("question"), row.get("passage")) for identifier, row in cells.items()}
            for code, cells in texts.items()
        }
        first_appearance = dict.fromkeys(identifier for code in sorted(texts) for identifier in texts[code])
        assert corpus.ids(slice(None)) == list(first_appearance)
        assert corpus.num_examples == len(first_appearance)


@settings(max_examples=30, deadline=None)
@given(languages)
def test_examples_are_of_one_group_if_a_passage_text_joins_them_in_any_languages(
    texts: dict[str, dict[str, dict[str, str]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_jsonl(Path(folder, "corpus"), {code: as_rows(cells) for code, cells in texts.items()})
        corpus = opened(path, Path(folder))
        ids = corpus.ids(slice(None))
        passages = [{cells[i]["passage"] for cells in texts.values() if "passage" in cells.get(i, {})} for i in ids]
        group = list(range(len(ids)))
        for _ in ids:
            for i in range(len(ids)):
                for j in range(len(ids)):
                    if passages[i] & passages[j]:
                        group[i] = group[j] = min(group[i], group[j])
        numbers = sorted(set(group))
        assert corpus.passage_groups(slice(None)).tolist() == [numbers.index(g) for g in group]
        assert corpus.num_groups == len(numbers)


def test_passage_ids_make_the_groups_where_they_are_given(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "question": "1", "passage": "same", "passage_id": "x"},
        {"id": "b", "question": "2", "passage": "same", "passage_id": "y"},
        {"id": "c", "question": "3", "passage": "other", "passage_id": "x"},
    ]
    corpus = opened(write_jsonl(tmp_path / "c", {"en": rows}), tmp_path)
    assert corpus.passage_groups(slice(None)).tolist() == [0, 1, 0]


def test_hard_negatives_come_with_the_group_of_the_passage_they_repeat(tmp_path: Path) -> None:
    english: list[Row] = [
        {"id": "a", "question": "1", "passage": "A", "negatives": ["B", "nowhere"]},
        {"id": "b", "question": "2", "passage": "B"},
        {"id": "c", "question": "3", "passage": "C", "negatives": ["das A"]},
    ]
    german: list[Row] = [
        {"id": "c", "question": "drei", "passage": "das C", "negatives": []},
        {"id": "a", "question": "eins", "passage": "das A", "negatives": ["C", "das C", "A"]},
    ]
    spanish = [{"id": "a", "question": "uno", "passage": "el A"}]
    corpus = opened(write_jsonl(tmp_path / "c", {"de": german, "en": english, "es": spanish}), tmp_path)
    assert corpus.has_hard_negatives
    assert corpus.ids(slice(None)) == ["c", "a", "b"]
    examples, in_language = [1, 1, 0, 2, 0, 1], [1, 0, 1, 1, 0, 2]
    assert corpus.hard_negatives(examples, in_language) == [
        ["B", "nowhere"],
        ["C", "das C", "A"],
        ["das A"],
        [],
        [],
        [],
    ]
    assert corpus.hard_negative_groups(examples, in_language) == [[2, -1], [0, 0, 1], [1], [], [], []]


def test_texts_of_mixed_languages_come_in_the_order_asked_for(tmp_path: Path) -> None:
    codes = ["ar", "de", "en"]
    rows = {c: [{"id": str(i), "question": f"{c}q{i}", "passage": f"{c}p{i}"} for i in range(20)] for c in codes}
    rows["de"].reverse()
    corpus = opened(write_jsonl(tmp_path / "c", rows), tmp_path)
    generator = np.random.default_rng(0)
    examples, in_language = generator.integers(20, size=100), generator.integers(3, size=100)
    expected = [(int(i), codes[k]) for i, k in zip(examples, in_language, strict=True)]
    assert corpus.questions(examples, in_language) == [f"{code}q{i}" for i, code in expected]
    assert corpus.passages(examples, in_language) == [f"{code}p{i}" for i, code in expected]
    assert corpus.questions([], []) == []


@pytest.mark.parametrize("language", [0, 1])
def test_asking_for_a_missing_text_is_an_error_and_never_an_empty_text(tmp_path: Path, language: int) -> None:
    rows: dict[str, list[Row]] = {
        "de": [{"id": "a", "passage": "A"}, {"id": "b", "question": "?", "passage": "B"}],
        "en": [{"id": "b", "question": "?", "passage": "B"}],
    }
    corpus = opened(write_jsonl(tmp_path / "c", rows), tmp_path)
    with pytest.raises(ValueError, match="no question in"):
        corpus.questions([1, 0], [language, language])


@pytest.mark.parametrize(("indices", "in_language"), [([2], [0]), ([-1], [0]), ([0], [1]), ([0], [-1])])
def test_indices_outside_the_corpus_are_index_errors(
    tmp_path: Path, indices: list[int], in_language: list[int]
) -> None:
    rows = [{"id": name, "question": "?", "passage": name} for name in "ab"]
    corpus = opened(write_jsonl(tmp_path / "c", {"en": rows}), tmp_path)
    with pytest.raises(IndexError):
        corpus.questions(indices, in_language)


def test_a_corpus_survives_pickling(tmp_path: Path) -> None:
    corpus = opened(write_jsonl(tmp_path / "c", {"en": [{"id": "a", "question": "?", "passage": "A"}]}), tmp_path)
    copy = pickle.loads(pickle.dumps(corpus))
    assert (copy.name, copy.fingerprint, copy.passages([0], [0])) == ("c", corpus.fingerprint, ["A"])


def test_statistics_count_texts_groups_and_shared_ids(tmp_path: Path) -> None:
    rows: dict[str, list[Row]] = {
        "de": [{"id": "a", "passage": "A"}, {"id": "b", "question": "?", "passage": "A"}],
        "en": [{"id": "b", "question": "?"}, {"id": "c", "passage": "C"}, {"id": "d", "passage": "D"}],
    }
    statistics = opened(write_jsonl(tmp_path / "c", rows), tmp_path).statistics
    assert statistics.examples == 4
    assert statistics.passage_groups == 3
    assert statistics.questions == {"de": 1, "en": 1}
    assert statistics.passages == {"de": 2, "en": 2}
    assert statistics.shared_ids == 0.25


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "examples"),
    [("bible", 22746), ("courses", 13555), ("news", 5024), ("xnli", 2500), ("newstest", 42926), ("lexicon", 27978)],
)
def test_real_folders_have_their_counts(data_dir: Path, tmp_path: Path, folder: str, examples: int) -> None:
    corpus = opened(data_dir / "train" / folder, tmp_path)
    counted = {path.stem: sum(1 for _ in path.open("rb")) for path in (data_dir / "train" / folder).glob("*.jsonl")}
    assert corpus.num_examples == examples
    assert corpus.statistics.questions == counted
    assert corpus.statistics.passages == counted


@pytest.mark.data
def test_mlqa_test_joins_passages_that_stand_under_several_ids(data_dir: Path, tmp_path: Path) -> None:
    corpus = opened(data_dir / "train" / "mlqa-test", tmp_path)
    statistics: Any = corpus.statistics
    assert statistics.passages["ar"] == 0
    assert statistics.questions["de"] < statistics.passages["de"]
    by_text: dict[str, int] = {}
    for k in range(len(corpus.languages)):
        have = np.flatnonzero(corpus.passage_mask(slice(None)) >> np.uint64(k) & np.uint64(1))
        groups = corpus.passage_groups(have).tolist()
        for text, group in zip(corpus.passages(have, np.full(len(have), k)), groups, strict=True):
            assert by_text.setdefault(text, group) == group
    assert corpus.num_examples - corpus.num_groups > 500
