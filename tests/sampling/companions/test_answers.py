"""In a batch no passage that answers a question, its own or an equal one, is told from its positive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hybatch.corpus import CorpusConfig, ParallelCorpus, open_corpus
from hybatch.ops.contrastive import EMPTY_SLOT
from hybatch.sampling import BatchSampler, SamplingConfig
from hybatch.sampling.companions.answers import join_answers

Rows = Sequence[tuple[str, str, list[str]]]
"""(question, passage, negatives) in one language."""


def written(folder: Path, rows_of_language: dict[str, Rows]) -> ParallelCorpus:
    folder.mkdir()
    for language, rows in rows_of_language.items():
        lines = [
            json.dumps({"id": str(k), "question": question, "passage": passage, "negatives": negatives})
            for k, (question, passage, negatives) in enumerate(rows)
        ]
        (folder / f"{language}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return open_corpus(CorpusConfig(path=str(folder)), cache_dir=folder / "cache", progress=False)


def polysemous(seed: int, number: int = 200) -> dict[str, Rows]:
    """Questions asked by several, passages that answer several, in two languages with equal questions of their own."""
    generator = np.random.default_rng(seed)
    words, senses = generator.integers(number, size=(2, 2, number))
    return {
        language: [(f"{language} {words[k, i]}", f"{language} means {senses[k, i]}", []) for i in range(number)]
        for k, language in enumerate(("de", "en"))
    }


@pytest.mark.parametrize("kind", ["x-x-mono", "x-x", "x-y"])
def test_what_answers_a_question_of_the_batch_has_the_group_of_its_positive(kind: str, tmp_path: Path) -> None:
    corpus = written(tmp_path / "c", polysemous(1))
    config = SamplingConfig(kind=kind, batch_size=32)
    sampler = BatchSampler([corpus], config, seed=3, total_steps=12, progress=False)
    everything = np.arange(corpus.num_examples)
    group = corpus.passage_groups(everything)
    joined = 0
    for step in range(12):
        batch = sampler.batch(step)
        assert len(set(group[batch.examples].tolist())) == 32
        direct = np.eye(32, dtype=bool)
        for row, (example, language) in enumerate(zip(batch.examples, batch.question_languages, strict=True)):
            asked = corpus.questions([example], [language])[0]
            texts = corpus.questions(everything, np.full(len(everything), language))
            right = {group[other] for other in everything if texts[other] == asked}
            direct[row] |= np.isin(group[batch.examples], list(right))
        # Joined over others, too, as one group stands for one thing.
        reached = np.linalg.matrix_power((direct | direct.T).astype(float), 32) > 0
        assert np.array_equal(batch.passage_groups[:, None] == batch.passage_groups[None, :], reached)
        joined += int(reached.sum()) - 32
    assert joined > 0


def test_passages_of_examples_that_ask_the_same_are_no_translations_of_each_other(tmp_path: Path) -> None:
    corpus = written(tmp_path / "c", polysemous(1))
    config = SamplingConfig(kind="bitext", batch_size=32)
    sampler = BatchSampler([corpus], config, seed=3, total_steps=12, progress=False)
    for batch in map(sampler.batch, range(12)):
        assert np.array_equal(batch.passage_groups, corpus.passage_groups(batch.examples))
        assert not batch.renamed_groups


def test_a_batch_has_the_examples_that_it_had_before_equal_questions_were_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = written(tmp_path / "c", polysemous(2))
    config = SamplingConfig(kind="hybrid", batch_size=16)
    sampler = BatchSampler([corpus], config, seed=0, total_steps=20, progress=False)
    with_answers = [sampler.batch(step) for step in range(20)]
    monkeypatch.setattr(ParallelCorpus, "answering_groups", lambda self, indices, _: [[] for _ in indices])
    for step, batch in enumerate(with_answers):
        without = sampler.batch(step)
        assert np.array_equal(batch.examples, without.examples)
        assert np.array_equal(batch.question_languages, without.question_languages)
        assert np.array_equal(corpus.passage_groups(batch.examples), without.passage_groups)


def test_a_hard_negative_that_answers_an_equal_question_is_told_by_the_group_of_that_query(tmp_path: Path) -> None:
    rows: Rows = [
        ("bank?", "money", ["shore", "nowhere"]),
        ("river?", "water", ["shore", "money"]),
        ("bank?", "shore", []),
        ("other?", "else", []),
    ]
    corpus = written(tmp_path / "c", {"en": rows})
    sampler = BatchSampler([corpus], SamplingConfig(kind="x-x-mono", batch_size=2), seed=0, total_steps=40)
    seen = set()
    for step in range(40):
        batch = sampler.batch(step)
        groups = dict(zip(batch.examples.tolist(), sampler.texts(batch).hard_negative_groups, strict=True))
        own = dict(zip(batch.examples.tolist(), batch.passage_groups.tolist(), strict=True))
        for example, others in groups.items():
            seen.add((example, *sorted(own)))
            if example == 0:
                assert others == [own[0], -1]
            if example == 1 and {0, 2} & own.keys():
                assert others == [own[min(own.keys() - {1})]] * 2
            if example == 1 and 3 in own:
                assert others == [2, 0]
    assert {(0, 0, 1), (0, 0, 2), (1, 1, 2), (1, 1, 3)} <= seen


def test_an_answer_to_two_questions_that_are_not_joined_is_a_candidate_of_none(tmp_path: Path) -> None:
    rows: Rows = [("a?", "A", []), ("b?", "B", []), ("a?", "both", []), ("b?", "both", []), ("c?", "C", [])]
    corpus = written(tmp_path / "c", {"en": rows})
    examples = np.array([0, 1, 4])
    groups, renamed = join_answers(corpus, examples, np.zeros(3, dtype=np.int64), corpus.passage_groups(examples))
    assert groups.tolist() == corpus.passage_groups(examples).tolist()
    assert renamed == {int(corpus.passage_groups([2])[0]): EMPTY_SLOT}


@pytest.mark.data
def test_of_the_lexicon_so_many_rows_of_large_batches_ask_what_another_asks(data_dir: Path, tmp_path: Path) -> None:
    config = CorpusConfig(path=str(data_dir / "train" / "lexicon"))
    corpus = open_corpus(config, cache_dir=tmp_path, progress=False)
    assert corpus.fingerprint == "5eb18b3944f6acc319e3c28944490f1a"
    sampling = SamplingConfig(kind="x-x-mono", batch_size=1024)
    sampler = BatchSampler([corpus], sampling, seed=0, total_steps=20, progress=False)
    repeated = masked = 0
    for step in range(20):
        batch = sampler.batch(step)
        _, row, count = np.unique(
            corpus.questions(batch.examples, batch.question_languages), return_inverse=True, return_counts=True
        )
        again = count[row] > 1
        _, row, count = np.unique(batch.passage_groups, return_inverse=True, return_counts=True)
        repeated += int(again.sum())
        masked += int((count[row] > 1).sum())
        assert np.all(count[row][again] > 1)
    assert (repeated, masked) == (168, 621)
