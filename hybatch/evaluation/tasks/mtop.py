"""MTOP (arXiv 2008.09335): utterances to an assistant in 6 languages, each with its intent.

`mtop` retrieves utterances of the same intent: the test utterances are asked of the eval utterances, which share none
with them, in every language setting. `mtop-intent` fits a linear probe on the frozen embeddings of the English training
utterances and names the intents of every language's test utterances: zero-shot transfer but for English.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.entry import TaskEntry
from hybatch.evaluation.files import read_lines
from hybatch.evaluation.probe import ProbeTask
from hybatch.evaluation.settings.task import METRIC, SETTINGS, LabelledTexts, RetrievalTask, join_by_label

LANGUAGES = ("de", "en", "es", "fr", "hi", "th")
_COLUMNS = ("id", "intent", "slots", "utterance", "domain", "locale", "decoupled form", "tokens")


def _load_retrieval(data_dir: Path, languages: Sequence[str]) -> RetrievalTask:
    texts = {}
    for language in languages:
        queries, intents = _read(MTOP, data_dir, language, "test")
        candidates, labels = _read(MTOP, data_dir, language, "eval")
        texts[language] = LabelledTexts(queries, intents, candidates, [[label] for label in labels])
    return join_by_label("mtop", texts)


def _load_probe(data_dir: Path, languages: Sequence[str]) -> ProbeTask:
    trained_on, labels = _read(MTOP_INTENT, data_dir, "en", "train")
    tested = {language: _read(MTOP_INTENT, data_dir, language, "test") for language in languages}
    return ProbeTask(
        name="mtop-intent",
        languages=tuple(languages),
        queries={language: utterances for language, (utterances, _) in tested.items()},
        query_labels={language: intents for language, (_, intents) in tested.items()},
        candidates={"en": trained_on},
        candidate_labels={"en": labels},
    )


def _read(entry: TaskEntry, data_dir: Path, language: str, split: str) -> tuple[list[str], list[str]]:
    """(utterances, intents) of `mtop/<language>/<split>.txt`."""
    path = data_dir / "mtop" / language / f"{split}.txt"
    if not path.is_file():
        raise entry.missing([path])
    utterances, intents = [], []
    for number, line in read_lines(path):
        if not line.strip():
            continue
        columns = line.split("\t")
        if len(columns) != len(_COLUMNS):
            raise UserError(f"{path}:{number}: {len(columns)} columns; expected {', '.join(_COLUMNS)}, tabs between")
        intents.append(columns[1].strip())
        utterances.append(columns[3].strip())
    if not utterances:
        raise UserError(f"{path}: no utterance")
    return utterances, intents


MTOP = TaskEntry(
    name="mtop",
    summary="MTOP's test utterances against eval utterances of the same intent, 6 languages",
    languages=LANGUAGES,
    settings=SETTINGS,
    metric=METRIC,
    source="MTOP, arXiv 2008.09335",
    licence="CC BY-SA 4.0",
    layout="mtop/<lang>/test.txt and mtop/<lang>/eval.txt",
    download="https://fb.me/mtop_dataset",
    load=_load_retrieval,
)
MTOP_INTENT = replace(
    MTOP,
    name="mtop-intent",
    summary="a linear probe on MTOP's English training utterances, tested on 6 languages",
    settings="zero-shot transfer from English",
    metric="intent accuracy",
    layout="mtop/en/train.txt and mtop/<lang>/test.txt",
    load=_load_probe,
)
