"""Any retrieval test collection in BEIR's layout (arXiv 2104.08663): corpus.jsonl, queries.jsonl, qrels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.entry import TaskEntry
from hybatch.evaluation.collection.judgements import join, read_judgements, read_query_objects
from hybatch.evaluation.collection.passages import Passages, json_lines
from hybatch.evaluation.collection.task import CollectionTask

_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")
_JUDGEMENTS = ("qrels/test.tsv", "qrels/dev.tsv", "qrels.tsv", "qrels.txt")


def collections_of(data_dir: Path) -> list[str]:
    """The name of `data_dir` where it holds a corpus, or of its subfolders that do.

    Raises:
        UserError: none does.
    """
    if _first(data_dir, _CORPUS):
        return [data_dir.resolve().name]
    found = sorted(path.parent.name for path in data_dir.glob("*/corpus.jsonl*"))
    if not found:
        raise UserError(
            f"--data-dir {data_dir}: holds no corpus.jsonl, nor does a subfolder; task beir-like reads "
            f"{BEIR_LIKE.layout} there, or in one subfolder per language"
        )
    return found


def _load(data_dir: Path, names: Sequence[str]) -> CollectionTask:
    collections, searches = {}, {}
    itself = _first(data_dir, _CORPUS)
    for name in names:
        folder = data_dir if itself else data_dir / name
        corpus = _existing(folder, _CORPUS)
        queries = _existing(folder, ("queries.jsonl", "queries.jsonl.gz"))
        qrels = _existing(folder, _JUDGEMENTS)
        judgements = read_judgements(qrels)
        collections[name] = Passages(name, [corpus], json_lines("_id"))
        searches[name] = (name, join(read_query_objects(queries), judgements, collections[name], qrels))
    return CollectionTask("beir-like", collections, searches, ("ndcg@10", "recall@100", "mrr@10"))


def _existing(folder: Path, names: Sequence[str]) -> Path:
    path = _first(folder, names)
    if path is None:
        raise UserError(f"{folder}: holds none of {', '.join(names)}; task beir-like reads {BEIR_LIKE.layout}")
    return path


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


BEIR_LIKE = TaskEntry(
    name="beir-like",
    summary="a test collection of your own in BEIR's layout, in --data-dir",
    languages=collections_of,
    settings="the queries against the corpus",
    metric="nDCG@10, recall@100, MRR@10, exact mAP",
    source="your own",
    licence="your own",
    layout="corpus.jsonl, queries.jsonl (or .jsonl.gz) and qrels/test.tsv, qrels/dev.tsv or qrels.tsv",
    load=_load,
)
