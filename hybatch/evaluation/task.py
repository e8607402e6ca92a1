"""What a task is to the command, whatever its kind: it has a name and languages, and it knows how it is scored."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import torch

from hybatch.errors import UserError
from hybatch.evaluation.files import HALF_A_PAIR
from hybatch.evaluation.settings.per_query import QueryTables
from hybatch.models import Role

if TYPE_CHECKING:
    from hybatch.evaluation.embeddings import TaskEmbeddings
    from hybatch.evaluation.encoding.precision import Precision
    from hybatch.evaluation.source import Source

Part = Literal["queries", "candidates"]


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """How a task is encoded, searched and scored; each kind of task reads what concerns it."""

    batch_size: int = 128
    """Texts encoded at once by a process."""
    device: torch.device | str = "cpu"
    """Where the encoder runs and the scores are computed."""
    precision: Precision = "float32"
    """Of the encoder; embeddings are float32 in any case."""
    compile: bool = False
    """Run the encoder through torch.compile."""
    backend: str = "auto"
    """Of the ranking op."""
    dimensions: tuple[int, ...] = ()
    """What embeddings are cut to, for tasks that measure it; the encoder must have as many."""
    progress: bool = True
    """Show bars with the time left."""
    index: Path | None = None
    """Folder of a collection's embeddings; by default in the cache."""
    index_dtype: str = "float32"
    """Of the embeddings kept: float32 or float16."""
    method: str = "torch"
    """What retrieves from a collection: torch, faiss-flat, faiss-ivf-pq or faiss-hnsw."""
    search_device: str = "auto"
    """Of faiss: gpu shards the index over all GPUs, cpu uses none, auto those that faiss sees, if any."""
    save_run: Path | None = None
    """Folder for the passages retrieved, in trec_eval's form."""
    own_documents: Literal["leave-out", "keep"] = "leave-out"
    """What becomes of a collection's passage that has the id of the query that is asked."""
    unknown_judgements: Literal["refuse", "leave-out"] = "refuse"
    """What becomes of a collection's judgements of queries and passages that are not there, above 1% of them."""


class Scored(NamedTuple):
    """What scoring a task gives."""

    results: dict[str, Any]
    """The object of results.json."""
    timings: dict[str, Any]
    """For timings.json."""


def data_digest(contents: Iterable[tuple[str, Any]]) -> str:
    """A digest of named values that JSON can hold; a table is gone through key by key, so that little is held."""
    digest = hashlib.sha256()
    for name, value in contents:
        for key, part in sorted(value.items()) if isinstance(value, Mapping) else [("", value)]:
            digest.update(json.dumps([name, key, part], default=str).encode())
    return digest.hexdigest()[:16]


class Task(Protocol):
    """A task of any kind, as `hybatch evaluate` sees it."""

    @property
    def name(self) -> str:
        """What --task calls it."""

    @property
    def languages(self) -> tuple[str, ...]:
        """In alphabetical order."""

    roles: ClassVar[Mapping[Part, Role]]
    """As what each part is encoded: bitexts, say, have queries on both sides."""

    def digest(self) -> str:
        """Of the data: evaluations that share it ask the same queries, of the same candidates, for the same answers."""

    def check(self, source: Source, options: ScoringOptions) -> None:
        """Refuse, before anything is encoded, what the task cannot be scored from or with.

        Raises:
            UserError: names the option.
        """

    def score(self, source: Source, options: ScoringOptions, per_query: QueryTables) -> Scored:
        """Encode, or read embeddings, and measure; collective under torch.distributed.

        Args:
            per_query: filled with every query's figures (see `settings.per_query`).

        Raises:
            UserError: what is read or encoded cannot be used; on every process.
        """


@dataclass(frozen=True)
class TextsTask(ABC):
    """A task whose texts all fit into memory: encoded at once, or ready in a folder of embeddings.

    `queries` and `candidates` hold the texts of some or all of the languages.
    """

    name: str
    languages: tuple[str, ...]
    queries: dict[str, list[str]]
    candidates: dict[str, list[str]]

    roles: ClassVar[Mapping[Part, Role]] = {"queries": "query", "candidates": "passage"}
    """As what each part is encoded: bitexts, say, have queries on both sides."""

    def digest(self) -> str:
        """As `Task.digest`: of every field but the name."""
        contents = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}
        return data_digest(contents.items())

    def check(self, source: Source, options: ScoringOptions) -> None:
        """As `Task.check`: every source will do, but a model's tokenizer needs texts that UTF-8 can express."""
        for part, tables in (("queries", self.queries), ("candidates", self.candidates)):
            for language, texts in tables.items() if source.ready is None else ():
                for row, text in enumerate(texts):
                    if not text.isascii() and HALF_A_PAIR.search(text):
                        raise UserError(
                            f"task {self.name}: number {row} of the {part} in {language}, {text[:80]!a}, holds half a "
                            "surrogate pair, which is no text; take it out of the file"
                        )

    def score(self, source: Source, options: ScoringOptions, per_query: QueryTables) -> Scored:
        """As `Task.score`."""
        embeddings = source.embeddings_of(self, options)
        started = time.perf_counter()
        results = self.score_embeddings(embeddings, model=source.name, options=options, per_query=per_query)
        return Scored(results, {"scoring_seconds": time.perf_counter() - started})

    def language_of(self, part: Part, language: str) -> str:
        """The language that the texts `part[language]` are written in."""
        return language

    @abstractmethod
    def score_embeddings(
        self, embeddings: TaskEmbeddings, *, model: str, options: ScoringOptions, per_query: QueryTables
    ) -> dict[str, Any]:
        """The object of results.json; collective under torch.distributed.

        Args:
            model: what to write under "model".
            per_query: filled with every query's figures.
        """
