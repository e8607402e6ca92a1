"""Every combination of dimensions and kind of vectors, scored from one encoding."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hybatch.errors import UserError
from hybatch.evaluation.embeddings import TaskEmbeddings
from hybatch.evaluation.settings.per_query import QueryTables
from hybatch.evaluation.settings.task import RetrievalTask
from hybatch.evaluation.source import Source
from hybatch.evaluation.task import Scored, ScoringOptions, Task
from hybatch.evaluation.vectors.kinds import VECTOR_KINDS
from hybatch.evaluation.vectors.prefixes import PrefixEmbeddings


@dataclass(frozen=True)
class VectorChoice:
    """A kind of vectors, and how many dimensions of them; None for all."""

    kind: str
    dimensions: int | None

    @property
    def folder(self) -> str:
        """Such as "int8-256"; "int8" for all dimensions."""
        return self.kind if self.dimensions is None else f"{self.kind}-{self.dimensions}"

    def settings(self, width: int) -> dict[str, Any]:
        """The "vectors" of results.json; `width` is that of the embeddings."""
        dimensions = self.dimensions or width
        return {
            "kind": self.kind,
            "dimensions": dimensions,
            "bytes": VECTOR_KINDS[self.kind].bytes_of(dimensions),
        }

    def asked(self) -> dict[str, Any]:
        """What of it is known before the embeddings are."""
        return {"kind": self.kind} | ({} if self.dimensions is None else {"dimensions": self.dimensions})


def vector_choices(kinds: Sequence[str], dimensions: Sequence[int]) -> list[VectorChoice]:
    """Every combination, in the order given; of neither there are none.

    Args:
        kinds: where none are given, float32.
        dimensions: where none are given, all that the embeddings have.

    Raises:
        UserError: one is given twice.
    """
    for option, given in (("--vectors", kinds), ("--dimensions", dimensions)):
        twice = [one for place, one in enumerate(given) if one in given[:place]]
        if twice:
            raise UserError(f"{option}: {twice[0]} is given twice; each gives one evaluation")
    if not kinds and not dimensions:
        return []
    return [VectorChoice(kind, number) for number in dimensions or (None,) for kind in kinds or ("float32",)]


def check_vectors(task: Task, choices: Sequence[VectorChoice]) -> None:
    """Refuse a task whose ranks are not counted from vectors of any kind.

    Raises:
        UserError: names the options and the task.
    """
    if choices and not isinstance(task, RetrievalTask):
        raise UserError(
            f"--vectors, --dimensions: measure tasks that rank every language setting, and {task.name} is of another "
            "kind; hybatch evaluate --list-tasks says which are"
        )


@dataclass(frozen=True)
class ScoredChoice:
    """What one combination gives, or without one the embeddings as they are."""

    choice: VectorChoice | None
    scored: Scored
    per_query: QueryTables


def score_choices(
    task: RetrievalTask, source: Source, options: ScoringOptions, choices: Sequence[VectorChoice]
) -> list[ScoredChoice]:
    """Encode, or read embeddings, once, and measure every combination; collective under torch.distributed.

    Raises:
        UserError: what is read or encoded cannot be used; on every process.
    """
    embeddings = source.embeddings_of(task, options)
    if embeddings.similarity != "cosine":
        raise UserError(
            f"--vectors, --dimensions: {source.name} is compared by the inner product; they are for vectors that are "
            "compared by the cosine: give --similarity cosine, or leave the options out"
        )
    return [_score_choice(task, source, options, embeddings, choice) for choice in choices]


def _score_choice(
    task: RetrievalTask, source: Source, options: ScoringOptions, embeddings: TaskEmbeddings, choice: VectorChoice
) -> ScoredChoice:
    width = embeddings.embeddings("candidates", task.languages[0], slice(0)).shape[1]
    started = time.perf_counter()
    dimensions = choice.dimensions or width
    cut = embeddings if dimensions == width else PrefixEmbeddings(embeddings, dimensions)
    vectors = VECTOR_KINDS[choice.kind].of(cut, task)
    per_query: QueryTables = {}
    results = task.score_embeddings(vectors, model=source.name, options=options, per_query=per_query)
    results = {**results, "vectors": choice.settings(width)}
    return ScoredChoice(choice, Scored(results, {"scoring_seconds": time.perf_counter() - started}), per_query)
