"""Belebele (arXiv 2308.16884) as retrieval: 900 questions on 488 passages of FLORES-200, parallel in 122 languages.

A question's positives are its passage in every language. Languages go by FLORES' codes, such as eng_Latn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.entry import HubFiles, TaskEntry
from hybatch.evaluation.files import read_objects, text_field
from hybatch.evaluation.settings.task import METRIC, SETTINGS, LabelledTexts, RetrievalTask, join_by_label

_EXPECTED = '{"link": ..., "question_number": ..., "flores_passage": ..., "question": ..., "correct_answer_num": ...}'


def belebele_languages(data_dir: Path) -> list[str]:
    """The languages whose files are in `data_dir/belebele`.

    Raises:
        UserError: there is none.
    """
    found = sorted(path.stem for path in _folder(data_dir).glob("*_*.jsonl"))
    if not found:
        raise BELEBELE.missing([data_dir / "belebele" / "<lang>.jsonl"])
    return found


def _folder(data_dir: Path) -> Path:
    """The archive has the files side by side, the hub in a folder `data`."""
    folder = data_dir / "belebele"
    return folder / "data" if (folder / "data").is_dir() else folder


def _load(data_dir: Path, languages: Sequence[str]) -> RetrievalTask:
    paths = [_folder(data_dir) / f"{language}.jsonl" for language in languages]
    if missing := [path for path in paths if not path.is_file()]:
        raise BELEBELE.missing(missing)
    answers: dict[str, tuple[str, str]] = {}
    return join_by_label("belebele", {path.stem: _read(path, answers) for path in paths})


def _read(path: Path, answers: dict[str, tuple[str, str]]) -> LabelledTexts:
    """One language; `answers` holds each question's right answer and the place of it, to see that languages align.

    A question goes by its passage's link and its number; where several passages have one link, by the order too.
    """
    questions, labels = [], []
    passages: dict[str, list[str]] = {}
    seen: dict[str, int] = {}
    for number, row in read_objects(path, _EXPECTED):
        name = f"{text_field(row, 'link', path, number)}#{text_field(row, 'question_number', path, number)}"
        seen[name] = seen.get(name, 0) + 1
        label, answer = f"{name}#{seen[name]}", text_field(row, "correct_answer_num", path, number)
        expected, where = answers.setdefault(label, (answer, f"{path}:{number}"))
        if answer != expected:
            raise UserError(
                f"{path}:{number}: the question has answer {answer} and the same one at {where} answer {expected}: the "
                "files are not parallel; take them all from one release"
            )
        questions.append(text_field(row, "question", path, number))
        labels.append(label)
        passages.setdefault(text_field(row, "flores_passage", path, number), []).append(label)
    return LabelledTexts(questions, labels, list(passages), list(passages.values()))


BELEBELE = TaskEntry(
    name="belebele",
    summary="Belebele's questions against its passages, 122 languages, each question in all",
    languages=belebele_languages,
    settings=SETTINGS,
    metric=METRIC,
    source="Belebele, arXiv 2308.16884",
    licence="CC BY-SA 4.0",
    layout="belebele/<lang>.jsonl or belebele/data/<lang>.jsonl (lang: eng_Latn, ...)",
    download="https://huggingface.co/datasets/facebook/belebele",
    hub=(HubFiles("facebook/belebele", "belebele", lambda x: [f"data/{x}.jsonl"]),),
    load=_load,
)
