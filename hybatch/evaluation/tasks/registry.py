"""The tasks that `hybatch evaluate --task NAME` knows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybatch.corpus.embedded import LANGUAGES as EMBEDDED_LANGUAGES
from hybatch.corpus.embedded import write_evaluation
from hybatch.errors import UserError
from hybatch.evaluation.tasks.lareqa import LANGUAGES as LAREQA_LANGUAGES
from hybatch.evaluation.tasks.lareqa import load_lareqa, squad_task
from hybatch.evaluation.tasks.parallel import load_parallel, parallel_languages
from hybatch.evaluation.tasks.task import RetrievalTask


@dataclass(frozen=True)
class TaskEntry:
    """One task by name.

    summary: one line for --help.
    needs_data: whether the task reads --data-dir.
    languages: the languages it has, given --data-dir.
    load: reads it, given --data-dir and the languages wanted (all of them in `languages`).
    """

    summary: str
    needs_data: bool
    languages: Callable[[Path], Sequence[str]]
    load: Callable[[Path, Sequence[str]], RetrievalTask]


def _lareqa(name: str, summary: str) -> TaskEntry:
    return TaskEntry(
        summary=summary,
        needs_data=True,
        languages=lambda _: LAREQA_LANGUAGES[name],
        load=lambda data_dir, languages: load_lareqa(name, data_dir, languages),
    )


def _load_embedded(_: Path, languages: Sequence[str]) -> RetrievalTask:
    with tempfile.TemporaryDirectory() as folder:
        write_evaluation(Path(folder))
        return squad_task("embedded", [Path(folder) / f"{language}.json" for language in languages])


TASKS: dict[str, TaskEntry] = {
    "xquad-r": _lareqa("xquad-r", "LAReQA's XQuAD-R, 11 languages, every question in each"),
    "mlqa-r": _lareqa("mlqa-r", "LAReQA's MLQA-R, 7 languages, every question in two to four"),
    "parallel": TaskEntry(
        summary="your own <lang>.jsonl corpus in --data-dir, its passages as candidates",
        needs_data=True,
        languages=parallel_languages,
        load=load_parallel,
    ),
    "embedded": TaskEntry(
        summary="the held-out part of the corpus that comes with hybatch, 11 languages; needs no data",
        needs_data=False,
        languages=lambda _: EMBEDDED_LANGUAGES,
        load=_load_embedded,
    ),
}


def load_task(name: str, data_dir: Path | None, languages: Sequence[str] | None = None) -> RetrievalTask:
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
    known = sorted(entry.languages(folder))
    unknown = sorted(set(languages or ()) - set(known))
    if unknown:
        raise UserError(f"--languages {' '.join(unknown)}: not in task {name}, which has {', '.join(known)}")
    return entry.load(folder, sorted(set(languages)) if languages else known)
