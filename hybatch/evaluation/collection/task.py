"""Search tasks: queries of several languages, each language against one collection of passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hybatch.errors import UserError
from hybatch.evaluation.collection.evaluate import evaluate_collections
from hybatch.evaluation.collection.judgements import QuerySet
from hybatch.evaluation.collection.passages import Passages
from hybatch.evaluation.settings.per_query import QueryTables
from hybatch.evaluation.source import Source
from hybatch.evaluation.task import Scored, ScoringOptions


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

    def check(self, source: Source, options: ScoringOptions) -> None:
        """As `Task.check`: passages in files have no ready embeddings."""
        if source.ready is not None or source.save is not None:
            raise UserError(
                f"--task {self.name}: encodes its passages into shards; use --model, and --index to say where"
            )

    def score(self, source: Source, options: ScoringOptions, per_query: QueryTables) -> Scored:
        """As `Task.score`, see `evaluate_collections`."""
        encoder = source.encoder(options)
        return evaluate_collections(encoder, self, model=source.name, options=options, per_query=per_query)
