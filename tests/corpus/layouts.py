"""Small corpora on disk, for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybatch.corpus import CorpusConfig, ParallelCorpus, open_corpus

Row = dict[str, Any]
OPEN = (
    "import sys; from pathlib import Path; from hybatch.corpus import CorpusConfig, open_corpus;"
    "c = open_corpus(CorpusConfig(path=sys.argv[1]), cache_dir=Path(sys.argv[2]), progress=False);"
    "print(c.fingerprint, c.num_examples)"
)
"""What a process runs that opens the corpus at its first argument, with the cache at its second."""


def write_jsonl(folder: Path, rows_of_language: Mapping[str, Sequence[Row]]) -> Path:
    """Write `<lang>.jsonl` files and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for language, rows in rows_of_language.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (folder / f"{language}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def write_saved(folder: Path, rows_of_language: Mapping[str, Sequence[Row]]) -> Path:
    """Save a data set a language (save_to_disk) and return their folder."""
    from datasets import Dataset

    for language, rows in rows_of_language.items():
        Dataset.from_list(list(rows)).save_to_disk(str(folder / language))
    return folder


def opened(path: Path | str, cache_dir: Path, **settings: Any) -> ParallelCorpus:
    """The corpus at `path`, indexed under `cache_dir`."""
    return open_corpus(CorpusConfig(path=str(path), **settings), cache_dir=cache_dir, progress=False)


def contents(corpus: ParallelCorpus) -> dict[str, dict[str, tuple[str | None, str | None]]]:
    """language -> id -> (question, passage), read through the public methods."""
    everything = slice(None)
    ids = corpus.ids(everything)
    question_mask, passage_mask = corpus.question_mask(everything), corpus.passage_mask(everything)
    result: dict[str, dict[str, tuple[str | None, str | None]]] = {}
    for k, language in enumerate(corpus.languages):
        result[language] = {}
        for i, identifier in enumerate(ids):
            question = corpus.questions([i], [k])[0] if int(question_mask[i]) >> k & 1 else None
            passage = corpus.passages([i], [k])[0] if int(passage_mask[i]) >> k & 1 else None
            if question is not None or passage is not None:
                result[language][identifier] = (question, passage)
    return result
