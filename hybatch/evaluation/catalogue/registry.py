"""The tasks that `hybatch evaluate --task NAME` knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.entry import TaskEntry
from hybatch.evaluation.task import Task
from hybatch.evaluation.tasks import (
    beir_like,
    belebele,
    embedded,
    lareqa,
    mewsli_x,
    miracl,
    mrtydi,
    mtop,
    parallel,
    tatoeba,
    xor_retrieve,
)

TASKS: dict[str, TaskEntry] = {
    entry.name: entry
    for entry in (
        lareqa.XQUAD_R,
        lareqa.MLQA_R,
        parallel.PARALLEL,
        embedded.EMBEDDED,
        tatoeba.TATOEBA,
        tatoeba.TATOEBA_XTREME,
        beir_like.BEIR_LIKE,
        miracl.MIRACL,
        mrtydi.MRTYDI,
        xor_retrieve.XOR_RETRIEVE,
        mewsli_x.MEWSLI_X,
        mtop.MTOP,
        mtop.MTOP_INTENT,
        belebele.BELEBELE,
    )
}


def load_task(name: str, data_dir: Path | None, languages: Sequence[str] | None = None) -> Task:
    """Read the task `name`, restricted to `languages` where they are given: queries and candidates alike.

    Raises:
        UserError: an unknown task or language, no data folder where one is needed, or unusable data.
    """
    entry = TASKS.get(name)
    if entry is None:
        raise UserError(f"--task {name}: no such task; there are {', '.join(TASKS)}")
    if entry.needs_data and data_dir is None:
        raise UserError(f"--task {name} reads files: give --data-dir DIR or set HYBATCH_DATA_DIR")
    folder = Path(data_dir or ".")
    if entry.needs_data and not folder.is_dir():
        raise UserError(f"--data-dir {folder}: no such folder")
    known = sorted(entry.languages(folder) if callable(entry.languages) else entry.languages)
    unknown = sorted(set(languages or ()) - set(known))
    if unknown:
        raise UserError(f"--languages {' '.join(unknown)}: not in task {name}, which has {', '.join(known)}")
    return entry.load(folder, sorted(set(languages)) if languages else known)
