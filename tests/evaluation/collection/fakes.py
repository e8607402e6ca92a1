"""Small collections in the field's files, and encoders for them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hybatch.evaluation.collection.judgements import QuerySet
from hybatch.evaluation.collection.passages import Passages, json_lines
from tests.evaluation.synthetic import ToyEncoder

WORDS = [
    "amber",
    "bridge",
    "cloud",
    "delta",
    "ember",
    "forest",
    "garden",
    "harbour",
    "island",
    "jungle",
    "kettle",
    "lantern",
    "meadow",
    "nectar",
    "orchid",
]


class CollectionEncoder(ToyEncoder):
    """A toy encoder that can be told from others."""

    def __init__(self, width: int = 16) -> None:
        super().__init__(width)
        self.config = "toy"


class Fake(NamedTuple):
    """Texts and judgements: id -> text, query id -> passage id -> grade."""

    passages: dict[str, str]
    queries: dict[str, str]
    grades: dict[str, dict[str, int]]


def fake(num_passages: int = 60, num_queries: int = 12, seed: int = 0) -> Fake:
    """Random texts; every query has one to four judged passages of grades 0 to 2, one of them relevant."""
    rng = np.random.default_rng(seed)
    passages = {f"d{i}": " ".join(rng.choice(WORDS, size=6)) + f" {i}" for i in range(num_passages)}
    queries = {f"q{i}": " ".join(rng.choice(WORDS, size=3)) for i in range(num_queries)}
    grades = {}
    for query in queries:
        judged = rng.choice(list(passages), size=rng.integers(1, 5), replace=False)
        grades[query] = {str(d): int(rng.integers(0, 3)) for d in judged} | {str(judged[0]): 1}
    return Fake(passages, queries, grades)


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    """Objects as JSON, texts as they are; gzipped where the name ends so."""
    text = "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_beir(folder: Path, data: Fake) -> Path:
    """corpus.jsonl, queries.jsonl and qrels/test.tsv."""
    write_lines(folder / "corpus.jsonl", ({"_id": i, "title": "", "text": t} for i, t in data.passages.items()))
    write_lines(folder / "queries.jsonl", ({"_id": i, "text": t} for i, t in data.queries.items()))
    rows = [f"{q}\t{d}\t{g}" for q, judged in data.grades.items() for d, g in judged.items()]
    write_lines(folder / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore", *rows])
    return folder


def fake_passages(folder: Path, data: Fake, **options: Any) -> Passages:
    """The passages of `data` as a scanned collection."""
    path = write_lines(folder / "c.jsonl", ({"_id": i, "text": t} for i, t in data.passages.items()))
    return Passages("c", [path], json_lines("_id"), **options)


def query_set(data: Fake) -> QuerySet:
    """The queries of `data`, passages numbered in order."""
    number = {identifier: i for i, identifier in enumerate(data.passages)}
    relevant = [{number[d]: g for d, g in data.grades[q].items() if g > 0} for q in data.queries]
    return QuerySet(list(data.queries), list(data.queries.values()), relevant)


def trec_figures(data: Fake, run: dict[str, dict[str, float]], measures: set[str]) -> dict[str, float]:
    """Means over the queries by trec_eval itself."""
    import pytrec_eval

    found = pytrec_eval.RelevanceEvaluator(data.grades, measures).evaluate(run)
    names = next(iter(found.values()))
    return {name: float(np.mean([row[name] for row in found.values()])) for name in names}
