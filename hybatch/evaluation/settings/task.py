"""What a retrieval task is: queries, candidates and positives in several languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hybatch.errors import UserError
from hybatch.evaluation.embeddings import TaskEmbeddings
from hybatch.evaluation.settings.per_query import QueryTables
from hybatch.evaluation.settings.scoring import score
from hybatch.evaluation.task import ScoringOptions, TextsTask

SETTINGS = "monolingual, cross-lingual, multilingual"
"""What is asked of which candidates, for the list of tasks."""
METRIC = "mAP, recall@1/10, hit@1/10, rank distance"
"""What is measured, likewise."""


@dataclass(frozen=True)
class RetrievalTask(TextsTask):
    """Queries of several languages against candidates of the same languages.

    The candidates of all languages form one pool and are numbered language by language, in the order of `languages`;
    duplicates are kept. `positives[language][i]` holds the pool indices of the positives of query i, in any language;
    it may lack some languages, and may be empty. `query_ids`, where given, names every query; parallel questions share
    theirs.

    Raises:
        ValueError: the languages are not in alphabetical order or not those of the three tables, the tables do not
            have the same rows, a positive is outside the pool or stands twice, or there is nothing to retrieve.
    """

    positives: dict[str, list[list[int]]]
    query_ids: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.languages or list(self.languages) != sorted(set(self.languages)):
            raise ValueError(f"{self.name}: languages must be distinct and in alphabetical order: {self.languages}")
        for table in ("queries", "candidates", "positives"):
            if set(getattr(self, table)) != set(self.languages):
                raise ValueError(f"{self.name}: {table} must have exactly the languages {self.languages}")
        for language in self.languages:
            self._check_positives(language)
            if self.query_ids and len(self.query_ids.get(language, ())) != len(self.queries[language]):
                raise ValueError(f"{self.name}: the queries and query_ids of {language} differ in number")
        if not any(any(map(len, self.positives[language])) for language in self.languages):
            raise ValueError(f"{self.name}: no query has a positive")

    def _check_positives(self, language: str) -> None:
        rows = self.positives[language]
        if len(rows) != len(self.queries[language]):
            raise ValueError(
                f"{self.name}: {language} has {len(self.queries[language])} queries, {len(rows)} positives"
            )
        for query, row in enumerate(rows):
            if len(set(row)) != len(row):
                raise ValueError(f"{self.name}: query {query} of {language} has a positive twice")
            if row and not 0 <= min(row) <= max(row) < self.num_candidates:
                raise ValueError(f"{self.name}: query {query} of {language} has a positive outside the pool")

    def score_embeddings(
        self, embeddings: TaskEmbeddings, *, model: str, options: ScoringOptions, per_query: QueryTables
    ) -> dict[str, Any]:
        """As `TextsTask.score_embeddings`: every language setting, see `score`."""
        return score(
            embeddings,
            self,
            model=model,
            backend=options.backend,
            device=options.device,
            progress=options.progress,
            per_query=per_query,
        )

    @property
    def num_candidates(self) -> int:
        """Size of the pool of all languages."""
        return sum(len(self.candidates[language]) for language in self.languages)

    def candidate_groups(self) -> np.ndarray:
        """int32 [D]: which of `languages` each candidate of the pool belongs to."""
        sizes = [len(self.candidates[language]) for language in self.languages]
        return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)

    def positives_of(self, language: str) -> tuple[np.ndarray, np.ndarray]:
        """(positives [P], offsets [Q + 1]), int64: query i of `language` owns positives[offsets[i]:offsets[i + 1]]."""
        rows = self.positives[language]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return np.fromiter((p for row in rows for p in row), dtype=np.int64, count=int(offsets[-1])), offsets


@dataclass(frozen=True)
class LabelledTexts:
    """The texts of one language with the labels that join them across languages.

    A candidate is a positive of a query when a label of the candidate is the label of the query.
    """

    queries: list[str]
    query_labels: list[str]
    candidates: list[str]
    candidate_labels: list[Sequence[str]]


def join_by_label(name: str, texts: dict[str, LabelledTexts]) -> RetrievalTask:
    """Build a task in which the positives of a query are the candidates of every language that carry its label.

    Raises:
        UserError: no query has a positive.
    """
    languages = tuple(sorted(texts))
    holders: dict[str, list[int]] = {}
    index = 0
    for language in languages:
        for labels in texts[language].candidate_labels:
            for label in dict.fromkeys(labels):
                holders.setdefault(label, []).append(index)
            index += 1
    positives = {
        language: [list(holders.get(label, ())) for label in texts[language].query_labels] for language in languages
    }
    if not any(any(rows) for rows in positives.values()):
        raise UserError(f"{name}: no query has a positive in the languages {', '.join(languages)}: nothing to measure")
    return RetrievalTask(
        name=name,
        languages=languages,
        queries={language: texts[language].queries for language in languages},
        candidates={language: texts[language].candidates for language in languages},
        positives=positives,
        query_ids={language: texts[language].query_labels for language in languages},
    )
