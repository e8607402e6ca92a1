"""Which passages answer a question: its own, and those of whatever else asks the same, in no wider circles."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.corpus import ParallelCorpus
from tests.corpus.layouts import Row, opened, write_jsonl
from tests.corpus.readers import READERS

few = st.sampled_from(["who?", "what?", "who? ", "Who?", "when?"])
cell = st.fixed_dictionaries({"question": few, "passage": st.sampled_from("pqrstu")}, optional={})
rows_by_id = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.one_of(cell, st.fixed_dictionaries({"question": few}), st.fixed_dictionaries({"passage": st.just("p")})),
    min_size=1,
)


def answering(corpus: ParallelCorpus) -> dict[tuple[str, str], list[int]]:
    """(language, id) of every question -> the further groups that answer it."""
    found = {}
    masks = corpus.question_mask(slice(None)).tolist()
    for k, language in enumerate(corpus.languages):
        examples = [i for i, mask in enumerate(masks) if mask >> k & 1]
        groups = corpus.answering_groups(examples, [k] * len(examples))
        found |= {(language, i): of for i, of in zip(corpus.ids(examples), groups, strict=True)}
    return found


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["de", "en", "zh"]), rows_by_id, min_size=1))
def test_a_question_is_answered_by_the_groups_of_all_that_ask_it_in_its_language(
    texts: dict[str, dict[str, dict[str, str]]],
) -> None:
    rows = {code: [{"id": i} | texts_of for i, texts_of in cells.items()] for code, cells in texts.items()}
    with tempfile.TemporaryDirectory() as folder:
        corpus = opened(write_jsonl(Path(folder, "corpus"), rows), Path(folder))
        group = dict(zip(corpus.ids(slice(None)), corpus.passage_groups(slice(None)).tolist(), strict=True))
        expected = {
            (code, i): sorted(
                {group[j] for j, other in cells.items() if other.get("question") == row["question"]} - {group[i]}
            )
            for code, cells in texts.items()
            for i, row in cells.items()
            if "question" in row
        }
        assert answering(corpus) == expected


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_finds_equal_questions(reader: str, tmp_path: Path) -> None:
    rows = [("1", "bank?", "money"), ("2", "river?", "water"), ("3", "bank?", "shore"), ("4", "Bank?", "house")]
    options: dict[str, Any] = READERS[reader](tmp_path / "corpus", rows)
    corpus = opened(options.pop("path"), tmp_path / "cache", **options)
    assert corpus.passage_groups(slice(None)).tolist() == [0, 1, 2, 3]
    assert corpus.answering_groups([0, 1, 2, 3], [0, 0, 0, 0]) == [[2], [], [0], []]


def test_equal_questions_of_different_languages_are_different_questions(tmp_path: Path) -> None:
    rows: dict[str, list[Row]] = {
        "de": [{"id": "a", "question": "Gift?", "passage": "A"}],
        "en": [{"id": "b", "question": "Gift?", "passage": "B"}, {"id": "a", "question": "Poison?"}],
    }
    corpus = opened(write_jsonl(tmp_path / "c", rows), tmp_path)
    assert corpus.answering_groups([0, 1], [0, 1]) == [[], []]


def test_what_answers_a_question_does_not_grow_over_the_passages_of_others(tmp_path: Path) -> None:
    """As words do with several senses: a chain of joins would make one group of all."""
    rows = [{"id": f"{k}", "question": f"word {(k + 1) // 2}", "passage": f"sense {k // 2}"} for k in range(20)]
    corpus = opened(write_jsonl(tmp_path / "c", {"en": rows}), tmp_path)
    assert corpus.num_groups == 10
    assert max(map(len, answering(corpus).values())) == 1


def test_mmarco_looks_at_each_text_once_however_many_triples_use_it(tmp_path: Path) -> None:
    from tests.corpus.formats.test_mmarco import PASSAGES, QUERIES, write

    queries = QUERIES | {"english": {"11": "who?", "12": "what?", "13": "who?"}}
    corpus = opened(write(tmp_path / "m", queries, PASSAGES), tmp_path)
    # Examples of queries 11, 12, 11, 13, 11 in groups 0, 1, 0, 2, 0.
    assert corpus.answering_groups(range(5), [1] * 5) == [[2], [], [2], [0], [2]]
    assert corpus.answering_groups(range(5), [0] * 5) == [[]] * 5
