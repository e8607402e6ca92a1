"""Search tasks: queries of several languages, each language against one collection of passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hybatch.evaluation.collection.judgements import QuerySet
from hybatch.evaluation.collection.passages import Passages


@dataclass(frozen=True)
class CollectionTask:
    """What is asked of which collection, and which metrics are the task's.

    collections: by name; several languages may search one.
    searches: language -> (name of the collection, its queries).
    metrics: of the passages retrieved, such as "ndcg@10", "recall@100", "mrr@10", "map@20" or, where the queries
        have answers, "recall@2kt".
    depth: passages retrieved a query.
    """

    name: str
    collections: Mapping[str, Passages]
    searches: Mapping[str, tuple[str, QuerySet]]
    metrics: tuple[str, ...]
    depth: int = 100

    @property
    def languages(self) -> tuple[str, ...]:
        """In alphabetical order."""
        return tuple(sorted(self.searches))
