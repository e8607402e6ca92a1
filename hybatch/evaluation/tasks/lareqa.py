"""LAReQA's retrieval tasks, XQuAD-R and MLQA-R (arXiv 2004.05484): questions against all sentences.

Candidates of a language are every sentence of every paragraph, in file order, duplicates kept. The positive of a
question is the sentence that holds the first character of its answer; parallel questions share an id, so a question
has a positive in each language in which it was asked. In XQuAD-R that is every language, in MLQA-R two to four.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybatch.corpus.formats.squad import SquadFile, read_squad_file
from hybatch.errors import UserError
from hybatch.evaluation.catalogue.entry import TaskEntry
from hybatch.evaluation.settings.task import METRIC, SETTINGS, LabelledTexts, RetrievalTask, join_by_label

LANGUAGES = {
    "xquad-r": ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh"),
    "mlqa-r": ("ar", "de", "en", "es", "hi", "vi", "zh"),
}
SOURCE = "https://github.com/google-research-datasets/lareqa"


def load_lareqa(name: str, data_dir: Path, languages: Sequence[str] | None = None) -> RetrievalTask:
    """Read `data_dir/<name>/<lang>.json` for the task's languages, or for those of them that are asked for.

    Raises:
        UserError: the folder or a language's file is missing, or a file is not of LAReQA's form.
    """
    folder = Path(data_dir) / name
    paths = [folder / f"{language}.json" for language in languages or LANGUAGES[name]]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f"task {name}: missing {', '.join(missing)}; download the {name} files from {SOURCE} into {folder}, one "
            "<lang>.json per language, or point --data-dir at the folder that holds "
            f"{name}/, or name the languages you have with --languages"
        )
    return squad_task(name, paths)


def squad_task(name: str, paths: Sequence[Path]) -> RetrievalTask:
    """The task of files in LAReQA's form, one per language, named `<lang>.json`.

    Raises:
        UserError: a file is missing, malformed or without sentences, or no question has a positive.
    """
    files = [read_squad_file(path) for path in paths]
    return join_by_label(name, {file.language: _labelled(file) for file in files})


def _labelled(file: SquadFile) -> LabelledTexts:
    labels: list[list[str]] = [[] for _ in file.sentences]
    for question in file.questions:
        if question.sentence is None:
            raise UserError(
                f"{file.path}: the paragraphs have no `sentences`, which are this task's candidates; "
                f"plain SQuAD files will not do, take LAReQA's from {SOURCE}"
            )
        labels[question.sentence].append(question.id)
    return LabelledTexts(
        queries=[question.text for question in file.questions],
        query_labels=[question.id for question in file.questions],
        candidates=list(file.sentences),
        candidate_labels=list(labels),
    )


def _entry(name: str, summary: str) -> TaskEntry:
    return TaskEntry(
        name=name,
        summary=summary,
        languages=LANGUAGES[name],
        settings=SETTINGS,
        metric=METRIC,
        source="LAReQA, arXiv 2004.05484",
        licence="CC BY-SA 4.0",
        layout=f"{name}/<lang>.json",
        download=SOURCE,
        load=lambda data_dir, languages: load_lareqa(name, data_dir, languages),
    )


XQUAD_R = _entry("xquad-r", "LAReQA's XQuAD-R, 11 languages, every question in each")
MLQA_R = _entry("mlqa-r", "LAReQA's MLQA-R, 7 languages, every question in two to four")
