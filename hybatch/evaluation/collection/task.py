"""Search tasks: queries of several languages, each language against one collection of passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from hybatch.errors import UserError
from hybatch.evaluation.collection import own
from hybatch.evaluation.collection.evaluate import evaluate_collections
from hybatch.evaluation.collection.judgements import QuerySet, refuse_unknown
from hybatch.evaluation.collection.passages import Passages, is_word
from hybatch.evaluation.settings.per_query import QueryTables
from hybatch.evaluation.source import Source
from hybatch.evaluation.task import Part, Scored, ScoringOptions, data_digest
from hybatch.models import Role


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

    roles: ClassVar[Mapping[Part, Role]] = {"queries": "query", "candidates": "passage"}

    @property
    def languages(self) -> tuple[str, ...]:
        """In alphabetical order."""
        return tuple(sorted(self.searches))

    def digest(self) -> str:
        """As `Task.digest`: of every line of the collections, and of queries and judgements."""
        contents: dict[str, Any] = {name: passages.fingerprint for name, passages in self.collections.items()}
        for language, (name, one) in self.searches.items():
            relevant = [sorted(row.items()) for row in one.relevant]
            contents[f"searches.{language}"] = [name, one.ids, one.texts, relevant, one.answers]
        return data_digest(sorted(contents.items()))

    def own_documents(self, rule: own.OwnDocuments) -> dict[str, dict[str, int]]:
        """What becomes of passages that have their query's id, for results.json; as `own.own_documents`."""
        return own.own_documents({language: self.searches[language][1] for language in self.languages}, rule)

    def check(self, source: Source, options: ScoringOptions) -> None:
        """As `Task.check`: passages in files have no ready embeddings, and judgements must be of what is there."""
        if source.ready is not None or source.save is not None:
            raise UserError(
                f"--task {self.name}: encodes its passages into shards; use --model, and --index to say where"
            )
        if options.save_run is not None:
            self._check_ids()
        if options.unknown_judgements == "refuse":
            for _, queries in self.searches.values():
                refuse_unknown(queries)

    def _check_ids(self) -> None:
        """Refuse ids that would break the columns of a run's files."""
        found = [passages.no_word for passages in self.collections.values()]
        found += [f"query id {i!r}" for _, queries in self.searches.values() for i in queries.ids if not is_word(i)]
        if broken := next((one for one in found if one), None):
            raise UserError(
                f"--save-run: {broken} is empty or holds white space, which sets the columns of TREC's form apart; "
                "leave the option out, or give it another id"
            )

    def score(self, source: Source, options: ScoringOptions, per_query: QueryTables) -> Scored:
        """As `Task.score`, see `evaluate_collections`."""
        encoder = source.encoder(options)
        for _, queries in self.searches.values():
            encoder.refuse_tokenless(queries.texts, "query")
        return evaluate_collections(
            encoder, self, model=source.name, options=options, per_query=per_query, cut=source.cut
        )
