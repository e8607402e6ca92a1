"""Queries and relevance judgements of a retrieval test collection, in the field's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hybatch.errors import UserError
from hybatch.evaluation.collection.passages import Passages
from hybatch.evaluation.files import read_lines, read_objects, text_field

# Above this share of judgements that name an unknown query or passage the files do not belong together.
MOST_UNKNOWN = 0.01
_LISTED = 10

Judgements = dict[str, dict[str, int]]
"""Query id -> passage id -> grade."""


@dataclass(frozen=True)
class QuerySet:
    """The judged queries of one language.

    ids, texts: in file order.
    relevant: per query, the numbers of its relevant passages and their grades, all above 0.
    answers: per query, the strings that count as an answer, where a task has them.
    unknown: judgements left out because their query or passage is not there: how many, of how many, and the first.
    own: per query, the number of the passage that has the query's id, -1 where there is none; empty where no query has
        one.
    judged_in: the file of the judgements, for messages.
    """

    ids: list[str]
    texts: list[str]
    relevant: list[dict[int, int]]
    answers: list[list[str]] | None = None
    unknown: tuple[int, int, tuple[str, ...]] = (0, 0, ())
    own: list[int] = field(default_factory=list)
    judged_in: str = ""


def read_topics(path: Path) -> dict[str, str]:
    """Queries by id of a file with `id<tab>query` a line.

    Raises:
        UserError: a line has no tab, or an id stands twice.
    """
    topics: dict[str, str] = {}
    for number, line in read_lines(path):
        if not line.strip():
            continue
        identifier, tab, text = line.partition("\t")
        if not tab or not text.strip():
            raise UserError(f"{path}:{number}: expected a query's id, a tab and its text")
        _add(topics, identifier.strip(), text.strip(), path, number)
    return topics


def read_query_objects(path: Path, identifier: str = "_id", text: str = "text") -> dict[str, str]:
    """Queries by id of a file with one object a line.

    Raises:
        UserError: a line does not parse or lacks a field, or an id stands twice.
    """
    queries: dict[str, str] = {}
    for number, row in read_objects(path, f'{{"{identifier}": ..., "{text}": ...}}'):
        _add(queries, text_field(row, identifier, path, number), text_field(row, text, path, number), path, number)
    return queries


def read_judgements(path: Path) -> Judgements:
    """Judgements in trec_eval's form (query, iteration, passage, grade) or BEIR's (query, passage, grade).

    A first line whose grade is no number is the header. Grades may be written as 1.0, which a table with empty cells
    makes of them.

    Raises:
        UserError: a line has another number of columns or a grade that is no whole number, or two grades contradict.
    """
    judgements: Judgements = {}
    is_first = True
    for number, line in read_lines(path):
        if not line.strip():
            continue
        columns = line.split("\t") if line.count("\t") >= 2 else line.split()
        if len(columns) not in (3, 4):
            raise UserError(
                f"{path}:{number}: {len(columns)} columns; expected query, passage, grade, or query, 0, passage, grade"
            )
        query, passage, grade = columns[0].strip(), columns[-2].strip(), columns[-1].strip()
        value = _number(grade)
        if is_first and value is None:
            is_first = False
            continue
        is_first = False
        if value is None or not value.is_integer():
            raise UserError(f"{path}:{number}: grade {grade!r} is not a whole number")
        before = judgements.setdefault(query, {}).setdefault(passage, int(value))
        if before != value:
            raise UserError(f"{path}:{number}: query {query} and passage {passage} have grade {before} before, {grade}")
    if not judgements:
        raise UserError(f"{path}: no judgement")
    return judgements


def _number(grade: str) -> float | None:
    try:
        return float(grade)
    except ValueError:
        return None


def join(queries: Mapping[str, str], judgements: Judgements, passages: Passages, path: Path) -> QuerySet:
    """The queries that are judged, with their relevant passages by number.

    A judged query without a relevant passage stays, with none. Judgements of unknown queries or passages are left out
    and counted; `refuse_unknown` says whether they are too many.

    Args:
        path: of the judgements, for messages.

    Raises:
        UserError: no judgement of a relevant passage is left.
    """
    known = {query: grades for query, grades in judgements.items() if query in queries}
    identifiers = list(dict.fromkeys(passage for grades in known.values() for passage in grades))
    number = dict(zip(identifiers, passages.find(identifiers).tolist(), strict=True))
    unknown = [f"query {query}" for query, grades in judgements.items() if query not in queries for _ in grades]
    unknown += [f"passage {passage}" for grades in known.values() for passage in grades if number[passage] < 0]
    total = sum(map(len, judgements.values()))
    ids = [query for query in queries if query in known]
    relevant = [
        {number[passage]: grade for passage, grade in known[query].items() if grade > 0 and number[passage] >= 0}
        for query in ids
    ]
    if not any(relevant):
        raise UserError(f"{path}: no query has a relevant passage in the collection")
    listed = tuple(dict.fromkeys(unknown))[:_LISTED]
    own = passages.find(ids).tolist()
    return QuerySet(
        ids,
        [queries[query] for query in ids],
        relevant,
        unknown=(len(unknown), total, listed),
        own=own if max(own) >= 0 else [],
        judged_in=str(path),
    )


def refuse_unknown(one: QuerySet) -> None:
    """Refuse judgements of which many had to be left out.

    Raises:
        UserError: more than 1% name a query or passage that is not there.
    """
    count, total, first = one.unknown
    if count > MOST_UNKNOWN * total:
        raise UserError(
            f"{one.judged_in}: {count} of {total} judgements name queries or passages that are not there, more than "
            f"{MOST_UNKNOWN:.0%}: {', '.join(first)}; the files do not belong together, or the collection is "
            "incomplete; give --unknown-judgements leave-out to measure what is there"
        )


def flat_relevant(relevant: list[dict[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """(passages [P], offsets [Q + 1]), int64: query i's relevant passages are passages[offsets[i]:offsets[i + 1]]."""
    offsets = np.zeros(len(relevant) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in relevant], out=offsets[1:])
    return np.fromiter((p for row in relevant for p in row), dtype=np.int64, count=int(offsets[-1])), offsets


def _add(table: dict[str, str], identifier: str, text: str, path: Path, number: int) -> None:
    if identifier in table:
        raise UserError(f"{path}:{number}: query id {identifier!r} stands before too; every id must be another")
    table[identifier] = text
