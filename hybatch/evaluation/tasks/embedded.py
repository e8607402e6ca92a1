"""The held-out part of the corpus that comes with the package."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hybatch.corpus.embedded import LANGUAGES, write_evaluation
from hybatch.evaluation.catalogue.entry import TaskEntry
from hybatch.evaluation.settings.task import METRIC, SETTINGS, RetrievalTask
from hybatch.evaluation.tasks.lareqa import squad_task


def _load(_: Path, languages: Sequence[str]) -> RetrievalTask:
    with tempfile.TemporaryDirectory() as folder:
        write_evaluation(Path(folder))
        return squad_task("embedded", [Path(folder) / f"{language}.json" for language in languages])


EMBEDDED = TaskEntry(
    name="embedded",
    summary="the held-out part of the corpus that comes with hybatch, 11 languages; needs no data",
    languages=LANGUAGES,
    settings=SETTINGS,
    metric=METRIC,
    source="hybatch",
    licence="Apache-2.0",
    load=_load,
)
