"""Mr. TyDi (arXiv 2108.08787): queries of 11 languages against the Wikipedia of their language, the test judgements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybatch.evaluation.catalogue.entry import HubFiles, TaskEntry
from hybatch.evaluation.collection.judgements import join, read_judgements, read_topics
from hybatch.evaluation.collection.passages import Passages, json_lines
from hybatch.evaluation.collection.task import CollectionTask

LANGUAGE_NAMES = {
    "ar": "arabic", "bn": "bengali", "en": "english", "fi": "finnish", "id": "indonesian", "ja": "japanese",
    "ko": "korean", "ru": "russian", "sw": "swahili", "te": "telugu", "th": "thai",
}  # fmt: skip


def _load(data_dir: Path, languages: Sequence[str]) -> CollectionTask:
    collections, searches = {}, {}
    paths = {
        language: _paths(data_dir / "mrtydi" / f"mrtydi-v1.1-{LANGUAGE_NAMES[language]}") for language in languages
    }
    for language, (topics, qrels, corpus) in paths.items():
        queries, judgements = read_topics(topics), read_judgements(qrels)
        collections[language] = Passages(language, [corpus], json_lines("docid"))
        searches[language] = (language, join(queries, judgements, collections[language], qrels))
    return CollectionTask("mrtydi", collections, searches, ("mrr@100", "recall@100", "ndcg@10"))


def _folder_name(language: str) -> str:
    return f"mrtydi-v1.1-{LANGUAGE_NAMES.get(language, language)}"


def _paths(folder: Path) -> tuple[Path, Path, Path]:
    paths = (
        folder / "ir-format-data" / "topics.test.txt",
        folder / "ir-format-data" / "qrels.test.txt",
        folder / "corpus.jsonl.gz",
    )
    if missing := [path for path in paths if not path.is_file()]:
        raise MRTYDI.missing(missing)
    return paths


MRTYDI = TaskEntry(
    name="mrtydi",
    summary="Mr. TyDi's test queries, 11 languages, against the Wikipedia of their language",
    languages=tuple(LANGUAGE_NAMES),
    settings="monolingual, the whole Wikipedia of a language",
    metric="MRR@100, recall@100, nDCG@10, exact mAP",
    source="Mr. TyDi, arXiv 2108.08787",
    licence="Apache-2.0",
    layout=(
        "mrtydi/mrtydi-v1.1-<language>/ir-format-data/topics.test.txt and qrels.test.txt (language: arabic, ...) and "
        "mrtydi/mrtydi-v1.1-<language>/corpus.jsonl.gz"
    ),
    download="https://huggingface.co/datasets/castorini/mr-tydi and .../castorini/mr-tydi-corpus",
    hub=(
        HubFiles("castorini/mr-tydi", "mrtydi", lambda x: [f"{_folder_name(x)}/ir-format-data/*.test.txt"]),
        HubFiles("castorini/mr-tydi-corpus", "mrtydi", lambda x: [f"{_folder_name(x)}/corpus.jsonl.gz"]),
    ),
    load=_load,
)
