"""XOR-Retrieve of XOR-TyDi QA (arXiv 2010.11856): questions of 7 languages, answered from the English Wikipedia.

There are no judged passages: a question counts as answered when an answer's text is among the first 2,000 or 5,000
tokens retrieved.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.entry import TaskEntry
from hybatch.evaluation.collection.judgements import QuerySet
from hybatch.evaluation.collection.passages import Passage, Passages
from hybatch.evaluation.collection.task import CollectionTask
from hybatch.evaluation.collection.token_recall import word_tokenizer
from hybatch.evaluation.files import read_objects, text_field

LANGUAGES = ("ar", "bn", "fi", "ja", "ko", "ru", "te")
_QUESTIONS = ("xor_dev_retrieve_eng_span_v1_1.jsonl", "xor_dev_retrieve_eng_span.jsonl")
_PASSAGES = ("enwiki_20190201_w100.tsv", "psgs_w100.tsv")
# Passages are of about 100 words; short ones leave room, since the tokens wanted are 5,000.
_DEPTH = 100


def _load(data_dir: Path, languages: Sequence[str]) -> CollectionTask:
    word_tokenizer()  # says what is missing before anything is read
    folder = data_dir / "xor-retrieve"
    questions, corpus = _existing(folder, _QUESTIONS), _existing(folder, _PASSAGES)
    searches = {language: ("enwiki", one) for language, one in _read_questions(questions, languages).items()}
    passages = Passages("enwiki", [corpus], _read_passage, header=True)
    return CollectionTask("xor-retrieve", {"enwiki": passages}, searches, ("recall@2kt", "recall@5kt"), _DEPTH)


def _read_questions(path: Path, languages: Sequence[str]) -> dict[str, QuerySet]:
    found: dict[str, QuerySet] = {language: QuerySet([], [], [], []) for language in languages}
    seen: dict[str, int] = {}
    for number, row in read_objects(path, '{"id": ..., "question": ..., "lang": ..., "answers": [...]}'):
        identifier, language = text_field(row, "id", path, number), text_field(row, "lang", path, number)
        if seen.setdefault(identifier, number) != number:
            raise UserError(f"{path}:{number}: question id {identifier!r} stands in line {seen[identifier]} too")
        answers = row.get("answers")
        if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
            raise UserError(f"{path}:{number}: field 'answers' is {answers!r}, not a list of texts; take the dev file")
        if language in found:
            one = found[language]
            one.ids.append(identifier)
            one.texts.append(text_field(row, "question", path, number))
            one.relevant.append({})
            assert one.answers is not None
            one.answers.append(answers)
    empty = [language for language, one in found.items() if not one.ids]
    if empty:
        raise UserError(f"{path}: no question in {', '.join(empty)}")
    return found


def _read_passage(line: bytes, path: Path, number: int) -> Passage:
    """A line of id, text and title; both texts may stand in quotes, doubled inside, as csv has them."""
    try:
        columns = line.decode("utf-8").split("\t")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: not UTF-8 text (byte {error.start} of the line)") from error
    if len(columns) != 3:
        raise UserError(f"{path}:{number}: {len(columns)} columns; expected id, text and title, with a tab between")
    identifier, text, title = (_unquoted(column) for column in columns)
    return Passage(identifier, title, text)


def _unquoted(column: str) -> str:
    if len(column) >= 2 and column[0] == column[-1] == '"':
        return column[1:-1].replace('""', '"')
    return column


def _existing(folder: Path, names: Sequence[str]) -> Path:
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise XOR_RETRIEVE.missing([folder / names[0]])
    return path


XOR_RETRIEVE = TaskEntry(
    name="xor-retrieve",
    summary="XOR-TyDi QA's dev questions, 7 languages, against the English Wikipedia",
    languages=LANGUAGES,
    settings="cross-lingual, to English",
    metric="R@2kt, R@5kt",
    source="XOR QA, arXiv 2010.11856",
    licence="CC BY-SA 4.0",
    layout=f"xor-retrieve/{_QUESTIONS[0]} and xor-retrieve/{_PASSAGES[0]}",
    download="https://nlp.cs.washington.edu/xorqa",
    load=_load,
)
