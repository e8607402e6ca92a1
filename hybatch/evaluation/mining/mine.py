"""A corpus and an encoder to hard negatives: encode, search each language's pool, select.

U distinct passages, Q questions of one language, H embedding width, K passages retrieved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from tqdm import tqdm

from hybatch.corpus import ParallelCorpus
from hybatch.errors import UserError
from hybatch.evaluation.collection.search import Found
from hybatch.evaluation.cut_texts import CutTexts
from hybatch.evaluation.encoding import encode_texts
from hybatch.evaluation.mining.nearest import Nearest, nearest
from hybatch.evaluation.mining.selection import Rule, Selection, select
from hybatch.evaluation.mining.texts import Candidates, Questions, Relation, read_questions
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
    """Retrieved passages of the rank window that margin or ratio excluded."""
    positive_similarity: float | None = None
    """Mean over the questions; None without any."""
    negative_similarity: float | None = None
    """Mean over the negatives; None without any."""


@dataclass(frozen=True)
class Mined:
    """Hard negatives by language and example, from the most similar on, and figures by language."""

    negatives: dict[str, dict[int, list[str]]]
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

    Raises:
        UserError: no question has a passage in its language, or no pool of the relation reaches the first rank.
    """

    def __init__(self, corpus: ParallelCorpus, relation: Relation, rule: Rule) -> None:
        self.languages = corpus.languages
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
    """The embeddings that `select_negatives` takes, on every process; collective under torch.distributed.

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


def select_negatives(
    task: MiningTask,
    queries: Sequence[np.ndarray],
    passages_UH: np.ndarray,
    *,
    method: str,
    device: str = "cpu",
    progress: bool = False,
) -> Mined:
    """Hard negatives for every question that has a passage in its language, from embeddings; on this process alone.

    Args:
        queries: of every language, float32 [Q, H] in the order of `task.questions`.
        passages_UH: float32, in the order of `task.candidates`.
        method: see `hybatch.evaluation.collection.search.search`.

    Raises:
        UserError: faiss is not installed.
    """
    negatives: dict[str, dict[int, list[str]]] = {language: {} for language in task.languages}
    tallies = {language: _Tally() for language in task.languages}
    total = sum(len(asked.texts) for asked in task.questions)
    with tqdm(total=total, desc="mining", unit="question", disable=not progress, leave=False) as bar:
        for pool, asking in task.pools():
            search = nearest(method, passages_UH[pool], device) if len(pool) else None
            for asked, start in ((one, at) for one in asking for at in range(0, len(one.texts), _QUESTIONS_AT_ONCE)):
                language = task.languages[asked.language]
                part = slice(start, start + _QUESTIONS_AT_ONCE)
                queries_QH = queries[asked.language][part]
                positives_Q = np.einsum("qh,qh->q", queries_QH, passages_UH[asked.positives[part]])
                scores_QK, found_QK = _retrieve(queries_QH, pool, search, asked.answers[part], task.rule)
                for row, example in enumerate(asked.examples[part].tolist()):
                    answers, positive = asked.answers[start + row], float(positives_Q[row])
                    chosen = select(found_QK[row], scores_QK[row], answers, positive, task.rule)
                    texts = [task.candidates.texts[number] for number in found_QK[row][chosen.places]]
                    negatives[language][example] = texts
                    tallies[language].add(chosen, positive, scores_QK[row], task.rule)
                bar.update(len(queries_QH))
    return Mined(negatives, {language: tally.finish() for language, tally in tallies.items()})


def _retrieve(
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
