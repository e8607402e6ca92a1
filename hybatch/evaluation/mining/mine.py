"""A corpus and an encoder to hard negatives: encode, search each language's pool, let a teacher judge, select.

U distinct passages, Q questions of one language, H embedding width, K passages retrieved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from hybatch.corpus import ParallelCorpus
from hybatch.errors import UserError
from hybatch.evaluation.collection.search import Found
from hybatch.evaluation.encoding.cut_texts import CutTexts
from hybatch.evaluation.encoding.encode import encode_texts
from hybatch.evaluation.mining.nearest import Nearest, nearest
from hybatch.evaluation.mining.selection import Rule, Selection, draw_of, in_window, select
from hybatch.evaluation.mining.texts import Candidates, Questions, Relation, read_questions
from hybatch.evaluation.teacher import Teacher
from hybatch.models import Encoder

# Searched at once: bounds what the retrieved passages take, and how far one question of many answers reaches.
_QUESTIONS_AT_ONCE = 8192


@dataclass(kw_only=True)
class MiningFigures:
    """What became of the questions of one language."""

    questions: int = 0
    with_all: int = 0
    """Questions that got as many negatives as were asked for."""
    with_some: int = 0
    with_none: int = 0
    negatives: int = 0
    answers_passed: int = 0
    """Retrieved passages of the question's own passage groups: its passage, translations, duplicates."""
    above_limit: int = 0
    """Retrieved passages of the rank window that a limit of the scores excluded."""
    positive_similarity: float | None = None
    """Mean score over the questions, by whichever model judges; None without any."""
    negative_similarity: float | None = None
    """Mean score over the negatives; None without any."""


class Retrieved(NamedTuple):
    """The passages nearest to some questions of one language that follow each other."""

    language: int
    """Its place in the corpus's languages."""
    start: int
    """The place of the first of them among the language's questions."""
    found_QK: np.ndarray
    """int64, candidates from the most similar on; -1 where there were no more."""
    scores_QK: np.ndarray
    """float32, by whichever model judges; after a teacher only those of the rank window."""
    positives_Q: np.ndarray
    """float32, the scores of the questions' own passages."""


class Negatives(NamedTuple):
    """Of one example, from the most similar on."""

    texts: list[str]
    scores: list[float]
    """Of the example's own passage and, after it, of each text; none where there is no text."""


@dataclass(frozen=True)
class Mined:
    """Hard negatives by language and example, and figures by language."""

    negatives: dict[str, dict[int, Negatives]]
    figures: dict[str, MiningFigures]


@dataclass
class _Tally:
    figures: MiningFigures = field(default_factory=MiningFigures)
    positive_sum: float = 0.0
    negative_sum: float = 0.0

    def add(self, chosen: Selection, positive: float, scores_K: np.ndarray, rule: Rule) -> None:
        figures, number = self.figures, len(chosen.places)
        figures.questions += 1
        figures.with_all += number == rule.negatives
        figures.with_some += 0 < number < rule.negatives
        figures.with_none += number == 0
        figures.negatives += number
        figures.answers_passed += chosen.answers_passed
        figures.above_limit += chosen.above_limit
        self.positive_sum += positive
        self.negative_sum += float(scores_K[chosen.places].sum(dtype=np.float64))

    def finish(self) -> MiningFigures:
        figures = self.figures
        if figures.questions:
            figures.positive_similarity = self.positive_sum / figures.questions
        if figures.negatives:
            figures.negative_similarity = self.negative_sum / figures.negatives
        return figures


class MiningTask:
    """What can be mined from a corpus; made before anything is encoded.

    `ids` are those of the examples where negatives are drawn at random.

    Raises:
        UserError: no question has a passage in its language, or no pool of the relation reaches the first rank.
    """

    def __init__(self, corpus: ParallelCorpus, relation: Relation, rule: Rule) -> None:
        self.languages = corpus.languages
        self.ids = corpus.ids(slice(None)) if rule.random_seed is not None else []
        self.relation = relation
        self.rule = rule
        self.candidates = Candidates(corpus)
        self.questions = read_questions(corpus, self.candidates)
        if not any(len(asked.texts) for asked in self.questions):
            raise UserError(f"{corpus.name}: no row has both a question and a passage, so there is nothing to mine for")
        largest = max(len(self.candidates.related(q.language, relation)) for q in self.questions if len(q.texts))
        if largest < rule.first_rank:
            raise UserError(
                f"--ranks {rule.first_rank} {rule.last_rank}: relation {relation} has {largest} distinct passages at "
                "most to choose from; start at a lower rank or choose another relation"
            )

    def pools(self) -> Iterator[tuple[np.ndarray, list[Questions]]]:
        """(candidates, the questions that search them), each pool once."""
        asking = [asked for asked in self.questions if len(asked.texts)]
        if self.relation == "pool":
            yield self.candidates.related(0, "pool"), asking
            return
        for asked in asking:
            yield self.candidates.related(asked.language, self.relation), [asked]


def encode_task(
    encoder: Encoder,
    task: MiningTask,
    *,
    batch_size: int,
    progress: bool = True,
    model: str = "",
    cut: CutTexts | None = None,
) -> tuple[list[np.ndarray], np.ndarray]:
    """The embeddings that `retrieve` takes, on every process; collective under torch.distributed.

    Raises:
        UserError: a text leaves nothing to encode, or an embedding is not finite.
    """
    texts = [text for asked in task.questions for text in asked.texts]
    encoder.refuse_tokenless(texts, "query")  # before the passages are encoded, which takes long
    encode = partial(encode_texts, encoder, batch_size=batch_size, progress=progress, model=model, cut=cut)
    passages_UH = encode(task.candidates.texts, "passage")
    queries = encode(texts, "query")
    ends = np.cumsum([len(asked.texts) for asked in task.questions])
    return np.split(queries, ends[:-1]), passages_UH


def retrieve(
    task: MiningTask,
    queries: Sequence[np.ndarray],
    passages_UH: np.ndarray,
    *,
    method: str,
    device: str = "cpu",
    progress: bool = False,
) -> Iterator[Retrieved]:
    """Search for every question that has a passage in its language, by embeddings; on this process alone.

    Args:
        queries: of every language, float32 [Q, H] in the order of `task.questions`.
        passages_UH: float32, in the order of `task.candidates`.
        method: see `hybatch.evaluation.collection.search.search`.

    Raises:
        UserError: faiss is not installed.
    """
    total = sum(len(asked.texts) for asked in task.questions)
    with tqdm(total=total, desc="mining", unit="question", disable=not progress, leave=False) as bar:
        for pool, asking in task.pools():
            search = nearest(method, passages_UH[pool], device) if len(pool) else None
            for asked, start in ((one, at) for one in asking for at in range(0, len(one.texts), _QUESTIONS_AT_ONCE)):
                part = slice(start, start + _QUESTIONS_AT_ONCE)
                queries_QH = queries[asked.language][part]
                positives_Q = np.einsum("qh,qh->q", queries_QH, passages_UH[asked.positives[part]])
                scores_QK, found_QK = _search(queries_QH, pool, search, asked.answers[part], task.rule)
                yield Retrieved(asked.language, start, found_QK, scores_QK, positives_Q)
                bar.update(len(queries_QH))


def rescore(
    task: MiningTask, retrieved: Sequence[Retrieved], teacher: Teacher, *, batch_size: int, progress: bool = False
) -> list[Retrieved]:
    """Let a teacher score the own passages and the passages of the rank windows; collective under torch.distributed.

    Which passages are considered, and their order, stay those of the encoder.

    Args:
        retrieved: the same on every process.

    Raises:
        UserError: a score is not finite.
    """
    windows = [
        np.stack([in_window(found_K, answers, task.rule) for found_K, answers in _rows(task, block)])
        for block in retrieved
    ]
    queries: list[str] = []
    passages: list[str] = []
    for block, window_QK in zip(retrieved, windows, strict=True):
        asked = task.questions[block.language]
        rows = range(block.start, block.start + len(block.found_QK))
        judged = zip(asked.positives[rows.start : rows.stop], block.found_QK, window_QK, strict=True)
        for row, (own, found_K, window_K) in zip(rows, judged, strict=True):
            texts = [task.candidates.texts[number] for number in (own, *found_K[window_K])]
            queries += [asked.texts[row]] * len(texts)
            passages += texts
    scores = iter(teacher.scores(queries, passages, batch_size=batch_size, progress=progress).tolist())
    judged_blocks = []
    for block, window_QK in zip(retrieved, windows, strict=True):
        scores_QK, positives_Q = np.full_like(block.scores_QK, np.nan), np.empty_like(block.positives_Q)
        for row, window_K in enumerate(window_QK):
            positives_Q[row] = next(scores)
            scores_QK[row, window_K] = [next(scores) for _ in range(int(window_K.sum()))]
        judged_blocks.append(block._replace(scores_QK=scores_QK, positives_Q=positives_Q))
    return judged_blocks


def select_negatives(task: MiningTask, retrieved: Iterable[Retrieved]) -> Mined:
    """Hard negatives for every question that was searched for."""
    negatives: dict[str, dict[int, Negatives]] = {language: {} for language in task.languages}
    tallies = {language: _Tally() for language in task.languages}
    for block in retrieved:
        language, asked = task.languages[block.language], task.questions[block.language]
        for row, (found_K, answers) in enumerate(_rows(task, block)):
            example, positive = int(asked.examples[block.start + row]), float(block.positives_Q[row])
            seed, texts = task.rule.random_seed, task.candidates.texts
            draw = None if seed is None else draw_of(seed, language, task.ids[example], texts)
            chosen = select(found_K, block.scores_QK[row], answers, positive, task.rule, draw)
            found = [texts[number] for number in found_K[chosen.places]]
            scores = [positive, *block.scores_QK[row][chosen.places].tolist()] if found else []
            negatives[language][example] = Negatives(found, scores)
            tallies[language].add(chosen, positive, block.scores_QK[row], task.rule)
    return Mined(negatives, {language: tally.finish() for language, tally in tallies.items()})


def _rows(task: MiningTask, block: Retrieved) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(what was found [K], the answers) of each question."""
    return zip(block.found_QK, task.questions[block.language].answers[block.start :], strict=False)


def _search(
    queries_QH: np.ndarray, pool: np.ndarray, search: Nearest | None, answers: Sequence[np.ndarray], rule: Rule
) -> Found:
    """The candidates of `pool` nearest to each question, enough for the rank window beside all of its answers."""
    inside = np.zeros(int(pool.max(initial=-1)) + 2, dtype=bool)
    inside[pool] = True
    most = max(int(inside[np.minimum(own, len(inside) - 1)].sum()) for own in answers)
    k = min(rule.last_rank + most, len(pool))
    if search is None or k == 0:
        return np.zeros((len(queries_QH), 0), dtype=np.float32), np.zeros((len(queries_QH), 0), dtype=np.int64)
    scores_QK, rows_QK = search(queries_QH, k)
    return scores_QK, np.where(rows_QK < 0, -1, pool[rows_QK])


def total_figures(figures: Mapping[str, MiningFigures]) -> MiningFigures:
    """The counts of all languages, and the means over all questions and negatives."""
    tally = _Tally()
    for one in figures.values():
        for name in ("questions", "with_all", "with_some", "with_none", "negatives", "answers_passed", "above_limit"):
            setattr(tally.figures, name, getattr(tally.figures, name) + getattr(one, name))
        tally.positive_sum += (one.positive_similarity or 0.0) * one.questions
        tally.negative_sum += (one.negative_similarity or 0.0) * one.negatives
    return tally.finish()
