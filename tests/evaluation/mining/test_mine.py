"""Mined negatives against sorting all scores: what is excluded, margins, ratios and rank windows."""

from __future__ import annotations

import tempfile
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.corpus import CorpusConfig, ParallelCorpus, open_corpus
from hybatch.errors import UserError
from hybatch.evaluation.mining.mine import MiningTask, rescore, retrieve, select_negatives, total_figures
from hybatch.evaluation.mining.selection import Rule, draw_of, select
from hybatch.evaluation.teacher import Teacher
from tests.evaluation.mining.oracle import brute_force
from tests.evaluation.synthetic import write_jsonl

LANGUAGES = ("aa", "bb", "cc")
RELATIONS = ("same", "other", "pool")


def _rows(seed: int, num_examples: int) -> dict[str, list[dict[str, Any]]]:
    """Rows with gaps, passages that stand in several languages and groups, and questions asked twice."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[dict[str, Any]]] = {language: [] for language in LANGUAGES}
    groups = rng.integers(0, max(2, num_examples * 2 // 3), size=num_examples)
    for i in range(num_examples):
        for language in LANGUAGES:
            row: dict[str, Any] = {"id": f"{i}", "passage_id": f"g{groups[i]}"}
            if rng.random() < 0.8:
                row["question"] = f"asked {i // 3}" if rng.random() < 0.2 else f"{language} asked {i}"
            if rng.random() < 0.8 or "question" not in row:
                row["passage"] = f"shared {i // 4}" if rng.random() < 0.2 else f"{language} said {i}"
            rows[language].append(row)
    rows["aa"][0] |= {"question": "first?", "passage": "first!"}
    return rows


def _vectors(rows: dict[str, list[dict[str, Any]]], seed: int, *, ties: bool) -> dict[tuple[str, str], np.ndarray]:
    """Small whole numbers, whose scores are exact and often tie; or unit vectors, whose scores do not."""
    rng = np.random.default_rng(seed)
    vectors: dict[tuple[str, str], np.ndarray] = {}
    for language in LANGUAGES:
        for row in rows[language]:
            for role, name in (("query", "question"), ("passage", "passage")):
                if name in row:
                    vector = rng.integers(-2, 3, size=4) if ties else rng.standard_normal(8)
                    scale = 1.0 if ties else np.linalg.norm(vector)
                    vectors[role, row[name]] = (vector / scale).astype(np.float32)
    return vectors


def _open(folder: Path, rows: dict[str, list[dict[str, Any]]]) -> ParallelCorpus:
    write_jsonl(folder / "corpus", rows)
    return open_corpus(CorpusConfig(path=str(folder / "corpus")), cache_dir=folder / "cache", progress=False)


def _mine(
    corpus: ParallelCorpus,
    vectors: dict[tuple[str, str], np.ndarray],
    relation: Any,
    rule: Rule,
    method: str = "torch",
    teacher: Any = None,
) -> tuple[dict[tuple[str, str], list[str]], Any]:
    task = MiningTask(corpus, relation, rule)
    width = len(next(iter(vectors.values())))
    queries = [np.array([vectors["query", t] for t in q.texts]).reshape(-1, width) for q in task.questions]
    passages_UH = np.array([vectors["passage", text] for text in task.candidates.texts])
    retrieved: Any = retrieve(task, queries, passages_UH, method=method)
    if teacher is not None:
        retrieved = rescore(task, list(retrieved), teacher, batch_size=2)
    mined = select_negatives(task, retrieved)
    ids = corpus.ids(slice(None))
    return {(x, ids[e]): found.texts for x, of in mined.negatives.items() for e, found in of.items()}, mined.figures


_RULES = st.builds(
    lambda negatives, first, width, margin, ratio, max_score: Rule(
        negatives=negatives,
        first_rank=first,
        last_rank=first + width,
        margin=margin,
        ratio=ratio,
        max_score=max_score,
    ),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 6),
    st.sampled_from([None, 0.0, 1.0, -2.0]),
    st.sampled_from([None, 0.5, 0.9, 1.0]),
    st.sampled_from([None, -1.0, 2.0]),
)


class _Rows(Teacher):
    """Gives every pair a whole number that its texts decide."""

    def __init__(self) -> None:
        super().__init__("rows")
        self.asked: list[tuple[str, str]] = []

    def _scores(self, queries: Sequence[str], passages: Sequence[str], **_: object) -> np.ndarray:
        self.asked += zip(queries, passages, strict=True)
        return np.array([_opinion(*pair) for pair in zip(queries, passages, strict=True)], dtype=np.float32)


def _opinion(query: str, passage: str) -> float:
    return float(zlib.crc32(f"{query} {passage}".encode()) % 9 - 4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), num=st.integers(6, 14), relation=st.sampled_from(RELATIONS), rule=_RULES)
def test_negatives_are_those_that_sorting_all_scores_gives(seed: int, num: int, relation: str, rule: Rule) -> None:
    rows = _rows(seed, num)
    vectors = _vectors(rows, seed, ties=True)
    with tempfile.TemporaryDirectory() as folder:
        found, figures = _mine(_open(Path(folder), rows), vectors, relation, rule)
    expected = brute_force(rows, vectors, relation, rule)
    assert found == expected.negatives
    total = total_figures(figures)
    assert (total.answers_passed, total.above_limit) == (expected.answers_passed, expected.above_limit)
    assert total.questions == len(found) == total.with_all + total.with_some + total.with_none
    assert total.with_all == sum(len(texts) == rule.negatives for texts in found.values())
    assert total.with_none == sum(not texts for texts in found.values())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), relation=st.sampled_from(RELATIONS), rule=_RULES)
def test_a_teacher_judges_what_the_encoder_finds_and_scores_nothing_else(seed: int, relation: str, rule: Rule) -> None:
    rows = _rows(seed, 10)
    vectors = _vectors(rows, seed, ties=True)
    teacher = _Rows()
    with tempfile.TemporaryDirectory() as folder:
        found, figures = _mine(_open(Path(folder), rows), vectors, relation, rule, teacher=teacher)
    expected = brute_force(rows, vectors, relation, rule, _opinion)
    assert found == expected.negatives
    total = total_figures(figures)
    assert (total.answers_passed, total.above_limit) == (expected.answers_passed, expected.above_limit)
    assert len(teacher.asked) == total.questions + total.above_limit + sum(
        map(len, brute_force(rows, vectors, relation, replace(rule, negatives=10**6), _opinion).negatives.values())
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), draw=st.integers(0, 10**6), rule=_RULES)
def test_random_choice_takes_as_many_of_what_the_rule_allows(seed: int, draw: int, rule: Rule) -> None:
    rows = _rows(seed, 12)
    vectors = _vectors(rows, seed, ties=True)
    with tempfile.TemporaryDirectory() as folder:
        found, _ = _mine(_open(Path(folder), rows), vectors, "pool", replace(rule, random_seed=draw))
    allowed = brute_force(rows, vectors, "pool", replace(rule, negatives=10**6)).negatives
    assert found.keys() == allowed.keys()
    for key, texts in found.items():
        assert texts == [text for text in allowed[key] if text in texts]
        assert len(texts) == min(rule.negatives, len(allowed[key]))


def test_random_choice_gives_every_passage_of_the_window_the_same_chance() -> None:
    texts = [f"passage {i}" for i in range(10)]
    found_K, scores_K = np.arange(10), np.linspace(1, 0, 10, dtype=np.float32)
    rule = Rule(negatives=3, first_rank=1)
    counts = np.zeros(10)
    for seed in range(600):
        draw = draw_of(seed, "aa", "1", texts)
        counts[select(found_K, scores_K, np.array([]), 1.0, rule, draw).places] += 1
    # 600 draws of share 0.3: a standard deviation of 11.
    assert np.all(np.abs(counts - 180) < 5 * 11.3)


def test_a_passage_s_draw_is_its_own_whatever_else_is_in_the_window() -> None:
    texts = [f"passage {i}" for i in range(40)]
    draw = draw_of(3, "aa", "1", texts)
    rule = Rule(negatives=4, first_rank=1)

    def chosen(found: list[int]) -> set[int]:
        places = select(np.array(found), np.zeros(len(found), dtype=np.float32), np.array([]), 1.0, rule, draw).places
        return {found[place] for place in places}

    whole = chosen(list(range(40)))
    assert chosen(list(range(39, -1, -1))) == whole
    assert chosen(sorted(whole | {0, 1, 2, 3, 4})) == whole
    assert {draw_of(*key, texts)(0) for key in ((4, "aa", "1"), (3, "bb", "1"), (3, "aa", "2"))}.isdisjoint({draw(0)})


@pytest.mark.parametrize("method", ["torch", "faiss-flat"])
@pytest.mark.parametrize("relation", RELATIONS)
def test_the_exact_searches_agree_with_sorting(tmp_path: Path, method: str, relation: str) -> None:
    if method != "torch":
        pytest.importorskip("faiss")
    rows = _rows(5, 40)
    vectors = _vectors(rows, 5, ties=False)
    rule = Rule(negatives=5, first_rank=2, last_rank=20, margin=0.05, ratio=0.95)
    found, figures = _mine(_open(tmp_path, rows), vectors, relation, rule, method)
    expected = brute_force(rows, vectors, relation, rule)
    assert found == expected.negatives
    total = total_figures(figures)
    assert min(total.negatives, total.answers_passed, total.above_limit) > 0
    flat = [
        vectors["query", next(r["question"] for r in rows[x] if r["id"] == i)] @ vectors["passage", text]
        for (x, i), texts in found.items()
        for text in texts
    ]
    assert total.negative_similarity == pytest.approx(float(np.mean(flat)), abs=1e-6)


@pytest.mark.parametrize("method", ["faiss-ivf-pq", "faiss-hnsw"])
def test_approximate_searches_keep_every_exclusion(tmp_path: Path, method: str) -> None:
    pytest.importorskip("faiss")
    rows = _rows(7, 60)
    vectors = _vectors(rows, 7, ties=False)
    corpus = _open(tmp_path, rows)
    rule = Rule(negatives=5, first_rank=1, last_rank=30, margin=0.1)
    found, _ = _mine(corpus, vectors, "same", rule, method)
    unlimited = brute_force(rows, vectors, "same", Rule(negatives=10**6, first_rank=1, last_rank=10**6, margin=0.1))
    assert any(found.values())
    for key, texts in found.items():
        assert len(set(texts)) == len(texts) <= 5
        positions = [unlimited.negatives[key].index(text) for text in texts]
        assert positions == sorted(positions)


def test_a_passage_in_another_form_of_itself_is_no_negative_and_stands_for_one(tmp_path: Path) -> None:
    said = "Café crème à Paris, n° １２"
    forms = [said, unicodedata.normalize("NFD", said), unicodedata.normalize("NFKC", said), said.replace(" ", "  ")]
    others = ["elsewhere", "else where", "nowhere"]
    passages = enumerate([*forms, *others])
    rows = {"aa": [{"id": f"{i}", "question": f"q{i}?", "passage": text} for i, text in passages]}
    # Who asks the same in another form has the answers of both.
    asked = (("same", "où ?", "p0"), ("same too", unicodedata.normalize("NFD", "où  ?"), "p too"))
    rows["aa"] += [{"id": i, "question": question, "passage": passage} for i, question, passage in asked]
    corpus = _open(tmp_path, rows)
    task = MiningTask(corpus, "same", Rule(first_rank=1))
    assert task.candidates.texts == [said, *others, "p0", "p too"]
    vectors = {("query", text): np.ones(2, dtype=np.float32) for one in task.questions for text in one.texts}
    vectors |= {("passage", text): np.ones(2, dtype=np.float32) for text in task.candidates.texts}
    negatives, _ = _mine(corpus, vectors, "same", Rule(negatives=9, first_rank=1))
    for i in range(len(forms)):
        assert negatives["aa", f"{i}"] == [*others, "p0", "p too"]
    assert negatives["aa", "4"] == [said, *others[1:], "p0", "p too"]
    assert negatives["aa", "same"] == negatives["aa", "same too"] == [said, *others]


def test_a_corpus_of_one_language_has_no_negatives_in_another(tmp_path: Path) -> None:
    rows = {"aa": [{"id": f"{i}", "question": f"q{i}", "passage": f"p{i}"} for i in range(5)]}
    with pytest.raises(UserError, match="relation other has 0 distinct passages"):
        MiningTask(_open(tmp_path, rows), "other", Rule(first_rank=1))


def test_a_corpus_without_pairs_is_refused(tmp_path: Path) -> None:
    rows = {"aa": [{"id": f"{i}", "question": f"q{i}"} for i in range(5)], "bb": [{"id": "0", "passage": "p"}]}
    with pytest.raises(UserError, match="no row has both"):
        MiningTask(_open(tmp_path, rows), "pool", Rule(first_rank=1))
