"""What mining reads of a corpus: candidates, questions, and which candidates answer which question.

U distinct passages, Q questions of one language.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hybatch.corpus import ParallelCorpus

Relation = Literal["same", "other", "pool"]
RELATIONS: tuple[Relation, ...] = ("same", "other", "pool")


def plain(text: str) -> str:
    """The text by which passages, and questions, are told apart.

    Texts that differ in white space or in Unicode's forms alone (é as one character or as two, full-width letters:
    NFKC) say the same, and tokenizers make the same of most of them.
    """
    return " ".join(unicodedata.normalize("NFKC", text).split())


class Candidates:
    """The distinct passages of a corpus, numbered by first appearance, language by language in alphabetical order.

    Passages that are alike (`plain`) are one, the first of them.

    Attributes:
        texts: the passages.
        languages_U: uint64 [U]; bit k says that the text is a passage in languages[k].
    """

    def __init__(self, corpus: ParallelCorpus) -> None:
        self.texts: list[str] = []
        self._number: dict[str, int] = {}
        self._of_group: dict[int, set[int]] = {}
        masks: list[int] = []
        for language in range(len(corpus.languages)):
            examples = _examples_with(corpus.passage_mask(slice(None)), language)
            texts = corpus.passages(examples, np.full(len(examples), language))
            for text, group in zip(texts, corpus.passage_groups(examples).tolist(), strict=True):
                number = self._number.setdefault(plain(text), len(masks))
                if number == len(masks):
                    masks.append(0)
                    self.texts.append(text)
                masks[number] |= 1 << language
                self._of_group.setdefault(group, set()).add(number)
        self.languages_U = np.array(masks, dtype=np.uint64)

    def number(self, text: str) -> int:
        """The candidate that this passage is."""
        return self._number[plain(text)]

    def of_groups(self, groups: Iterable[int]) -> np.ndarray:
        """int64, ascending: the candidates that stand for any of these passage groups, in all languages."""
        found = set().union(*(self._of_group.get(group, set()) for group in groups))
        return np.array(sorted(found), dtype=np.int64)

    def related(self, language: int, relation: Relation) -> np.ndarray:
        """int64, ascending: where a question of languages[language] finds its negatives.

        `same`: the passages in its language; `other`: those that are in none but other languages; `pool`: all.
        """
        if relation == "pool":
            return np.arange(len(self.texts), dtype=np.int64)
        here = (self.languages_U & np.uint64(1 << language)) != 0
        return np.flatnonzero(here if relation == "same" else ~here)


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The questions of one language that have a passage in it.

    Attributes:
        language: its place in the corpus's languages.
        examples: int64 [Q].
        texts: the questions.
        positives: int64 [Q], the candidate that is each one's passage.
        answers: of each, the candidates that are no negatives: all passages, in every language, of the passage groups
            of all examples that ask the same, word for word (`plain`).
    """

    language: int
    examples: np.ndarray
    texts: list[str]
    positives: np.ndarray
    answers: list[np.ndarray]


def read_questions(corpus: ParallelCorpus, candidates: Candidates) -> list[Questions]:
    """The questions of every language, in the order of `corpus.languages`."""
    masks = corpus.question_mask(slice(None))
    groups_of_text: dict[str, set[int]] = {}
    for language in range(len(corpus.languages)):
        examples = _examples_with(masks, language)
        texts = corpus.questions(examples, np.full(len(examples), language))
        for text, group in zip(texts, corpus.passage_groups(examples).tolist(), strict=True):
            groups_of_text.setdefault(plain(text), set()).add(group)
    found = []
    for language in range(len(corpus.languages)):
        examples = _examples_with(masks & corpus.passage_mask(slice(None)), language)
        languages = np.full(len(examples), language)
        texts = corpus.questions(examples, languages)
        positives = [candidates.number(text) for text in corpus.passages(examples, languages)]
        found.append(
            Questions(
                language=language,
                examples=examples,
                texts=texts,
                positives=np.array(positives, dtype=np.int64),
                answers=[candidates.of_groups(groups_of_text[plain(text)]) for text in texts],
            )
        )
    return found


def _examples_with(masks: np.ndarray, language: int) -> np.ndarray:
    return np.flatnonzero((masks & np.uint64(1 << language)) != 0)
