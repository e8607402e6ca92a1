"""MIRACL (arXiv 2210.09984): queries of 18 languages against the Wikipedia of their language, the dev judgements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.entry import HubFiles, TaskEntry
from hybatch.evaluation.collection.judgements import join, read_judgements, read_topics
from hybatch.evaluation.collection.passages import Passages, json_lines
from hybatch.evaluation.collection.task import CollectionTask

LANGUAGES = (
    "ar", "bn", "de", "en", "es", "fa", "fi", "fr", "hi", "id", "ja", "ko", "ru", "sw", "te", "th", "yo", "zh",
)  # fmt: skip


def _load(data_dir: Path, languages: Sequence[str]) -> CollectionTask:
    collections, searches = {}, {}
    paths = {language: _paths(data_dir / "miracl", language) for language in languages}
    for language, (topics, qrels, corpus) in paths.items():
        queries, judgements = read_topics(topics), read_judgements(qrels)
        collections[language] = Passages(language, corpus, json_lines("docid"))
        searches[language] = (language, join(queries, judgements, collections[language], qrels))
    return CollectionTask("miracl", collections, searches, ("ndcg@10", "recall@100"))


def _paths(folder: Path, language: str) -> tuple[Path, Path, list[Path]]:
    """Topics, judgements, and the corpus' files in the order of their numbers."""
    version = f"miracl-v1.0-{language}"
    topics = folder / version / "topics" / f"topics.{version}-dev.tsv"
    qrels = folder / version / "qrels" / f"qrels.{version}-dev.tsv"
    corpus = folder / f"miracl-corpus-v1.0-{language}"
    numbered = {
        int(match[1]): path
        for path in corpus.glob("docs-*.jsonl*")
        if (match := re.fullmatch(r"docs-(\d+)\.jsonl(\.gz)?", path.name))
    }
    missing = [path for path in (topics, qrels) if not path.is_file()]
    if missing or not numbered:
        raise MIRACL.missing(missing + ([] if numbered else [corpus / "docs-0.jsonl.gz"]))
    if sorted(numbered) != list(range(len(numbered))):
        absent = min(set(range(max(numbered))) - set(numbered))
        raise UserError(f"{corpus}: docs-{absent}.jsonl.gz is missing; a part of the corpus would not be searched")
    return topics, qrels, [numbered[i] for i in sorted(numbered)]


MIRACL = TaskEntry(
    name="miracl",
    summary="MIRACL's dev queries, 18 languages, against the Wikipedia of their language",
    languages=LANGUAGES,
    settings="monolingual, the whole Wikipedia of a language",
    metric="nDCG@10, recall@100, exact mAP",
    source="MIRACL, arXiv 2210.09984",
    licence="Apache-2.0",
    layout=(
        "miracl/miracl-v1.0-<lang>/topics/topics.miracl-v1.0-<lang>-dev.tsv, "
        "miracl/miracl-v1.0-<lang>/qrels/qrels.miracl-v1.0-<lang>-dev.tsv and "
        "miracl/miracl-corpus-v1.0-<lang>/docs-<i>.jsonl.gz"
    ),
    download="https://huggingface.co/datasets/miracl/miracl and .../miracl/miracl-corpus",
    hub=(
        HubFiles(
            "miracl/miracl", "miracl", lambda x: [f"miracl-v1.0-{x}/{part}/*-dev.tsv" for part in ("topics", "qrels")]
        ),
        HubFiles("miracl/miracl-corpus", "miracl", lambda x: [f"miracl-corpus-v1.0-{x}/docs-*.jsonl.gz"]),
    ),
    load=_load,
)
