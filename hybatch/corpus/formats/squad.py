"""SQuAD JSON files, with LAReQA's `sentences` and `sentence_breaks` where they have them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybatch.corpus.formats.entry import FormatEntry, from_rows
from hybatch.corpus.rows import RowBatch, check_languages, existing_folder, language_files, language_names
from hybatch.errors import UserError


@dataclass(frozen=True)
class SquadQuestion:
    """One question of a SQuAD file.

    `paragraph` indexes `SquadFile.paragraphs`; `answer_start` counts characters (code points) from the start of that
    paragraph; `sentence` indexes `SquadFile.sentences` and is None where the file has no sentences.
    """

    id: str
    text: str
    paragraph: int
    answer_start: int
    sentence: int | None


@dataclass(frozen=True)
class SquadFile:
    """The questions, paragraphs and sentences of one language, in file order, duplicates kept.

    `sentences` are the retrieval candidates of LAReQA (arXiv 2004.05484) and () where the file has none.
    """

    path: Path
    language: str
    questions: tuple[SquadQuestion, ...]
    paragraphs: tuple[str, ...]
    sentences: tuple[str, ...]


def read_squad_file(path: Path) -> SquadFile:
    """Read `<lang>.json`: {"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers"}], ...}]}]}.

    Paragraphs may carry `sentences` with `sentence_breaks`, [start, end) character offsets into the context; then
    each question gets the sentence that holds the first character of its first answer.

    Raises:
        UserError: the file is missing or not of this form; an answer starts outside its paragraph or outside every
            sentence; a sentence is not as long as its breaks say; a text is empty; an id stands twice.
    """
    path = Path(path)
    return _SquadReader(path, _load_json(path)).read()


def _load_json(path: Path) -> Any:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno}: malformed JSON ({error.msg}, column {error.colno}); expected a SQuAD file"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); convert the file to UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


class _SquadReader:
    def __init__(self, path: Path, document: Any) -> None:
        self.path = path
        self.document = document
        self.questions: list[SquadQuestion] = []
        self.paragraphs: list[str] = []
        self.sentences: list[str] = []
        self.seen_ids: set[str] = set()
        self.paragraphs_with_sentences = 0

    def read(self) -> SquadFile:
        if not isinstance(self.document, dict):
            raise UserError(f'{self.path}: expected an object {{"data": [...]}} as in SQuAD files')
        for a, article in enumerate(self._list(self.document, "data", "top level")):
            where = f"data[{a}]"
            for p, paragraph in enumerate(self._list(article, "paragraphs", where)):
                self._read_paragraph(paragraph, f"{where}.paragraphs[{p}]")
        if self.paragraphs_with_sentences not in (0, len(self.paragraphs)):
            raise UserError(
                f"{self.path}: {self.paragraphs_with_sentences} of {len(self.paragraphs)} paragraphs have `sentences`; "
                "give them to all paragraphs or to none"
            )
        return SquadFile(
            path=self.path,
            language=self.path.stem,
            questions=tuple(self.questions),
            paragraphs=tuple(self.paragraphs),
            sentences=tuple(self.sentences),
        )

    def _read_paragraph(self, paragraph: Any, where: str) -> None:
        context = self._text(paragraph, "context", where)
        first_sentence = len(self.sentences)
        breaks = self._read_sentences(paragraph, context, where)
        for q, question in enumerate(self._list(paragraph, "qas", where)):
            question_where = f"{where}.qas[{q}]"
            identifier = self._text(question, "id", question_where)
            question_where += f" (id {identifier})"
            if identifier in self.seen_ids:
                raise self._error(question_where, "this id stands twice in the file")
            self.seen_ids.add(identifier)
            answer_start = self._answer_start(question, len(context), question_where)
            sentence = None
            if breaks is not None:
                sentence = first_sentence + self._sentence_holding(answer_start, breaks, question_where)
            text = self._text(question, "question", question_where)
            self.questions.append(SquadQuestion(identifier, text, len(self.paragraphs), answer_start, sentence))
        self.paragraphs.append(context)

    def _read_sentences(self, paragraph: dict[str, Any], context: str, where: str) -> list[tuple[int, int]] | None:
        """Append the paragraph's sentences and return their breaks; None where it has none."""
        if "sentences" not in paragraph and "sentence_breaks" not in paragraph:
            return None
        sentences = self._list(paragraph, "sentences", where)
        breaks = self._list(paragraph, "sentence_breaks", where)
        if len(sentences) != len(breaks):
            raise self._error(where, f"{len(sentences)} sentences but {len(breaks)} sentence_breaks")
        for s, (sentence, pair) in enumerate(zip(sentences, breaks, strict=True)):
            valid = isinstance(pair, list) and len(pair) == 2 and all(type(offset) is int for offset in pair)
            if not (valid and 0 <= pair[0] < pair[1] <= len(context)):
                raise self._error(
                    where, f"sentence_breaks[{s}] is {pair!r}, not [start, end) within {len(context)} characters"
                )
            if not isinstance(sentence, str) or not sentence.strip():
                raise self._error(where, f"sentences[{s}] is not a text or empty")
            # Only the length: one published context was re-encoded after its sentences had been cut, so that the text
            # between the breaks is shifted by two characters against them.
            if len(sentence) != pair[1] - pair[0]:
                raise self._error(
                    where, f"sentences[{s}] has {len(sentence)} characters, its sentence_breaks {pair} say otherwise"
                )
        self.sentences.extend(sentences)
        self.paragraphs_with_sentences += 1
        return [(start, end) for start, end in breaks]

    def _answer_start(self, question: dict[str, Any], context_length: int, where: str) -> int:
        answers = self._list(question, "answers", where)
        if not answers:
            raise self._error(where, "no answer; take unanswerable questions (SQuAD 2.0) out of the file")
        start = answers[0].get("answer_start") if isinstance(answers[0], dict) else None
        if type(start) is not int:
            raise self._error(where, "answers[0].answer_start is missing or no integer")
        if not 0 <= start < context_length:
            raise self._error(where, f"answer_start {start} is outside its paragraph of {context_length} characters")
        return start

    def _sentence_holding(self, answer_start: int, breaks: list[tuple[int, int]], where: str) -> int:
        for index, (start, end) in enumerate(breaks):
            if start <= answer_start < end:
                return index
        raise self._error(where, f"answer_start {answer_start} is in none of the paragraph's sentence_breaks")

    def _list(self, parent: Any, key: str, where: str) -> list[Any]:
        value = parent.get(key) if isinstance(parent, dict) else None
        if not isinstance(value, list):
            raise self._error(where, f"expected a list under {key!r}")
        return value

    def _text(self, parent: Any, key: str, where: str) -> str:
        value = parent.get(key) if isinstance(parent, dict) else None
        if not isinstance(value, str):
            raise self._error(where, f"expected a text under {key!r}")
        if not value.strip():
            raise self._error(where, f"{key!r} is empty")
        return value

    def _error(self, where: str, problem: str) -> UserError:
        return UserError(f"{self.path}: {where}: {problem}")


class SquadSource:
    """Rows of a folder of `<lang>.json`; the passage is the sentence that holds the answer, else the paragraph.

    Raises:
        UserError: the folder has no such file, or lacks that of a language asked for.
    """

    work_unit = "B"

    def __init__(self, folder: Path, languages: Sequence[str] | None) -> None:
        self.place = str(folder)
        self.files = language_files(folder, ".json", languages)
        self.languages = check_languages(list(self.files), str(folder))
        self.total_work = sum(path.stat().st_size for path in self.files.values())

    def batches(self, language: str) -> Iterator[RowBatch]:
        """The questions of one language, in file order, with their passages."""
        path = self.files[language]
        file = read_squad_file(path)
        ids = [question.id for question in file.questions]
        yield RowBatch(
            ids=ids,
            questions=[question.text for question in file.questions],
            passages=[
                file.paragraphs[question.paragraph] if question.sentence is None else file.sentences[question.sentence]
                for question in file.questions
            ],
            place=lambda row: f"{path}: question {ids[row]}",
            work=path.stat().st_size,
        )


SQUAD = FormatEntry(
    name="squad",
    description="folder of `<lang>.json` as SQuAD, XQuAD, MLQA and LAReQA have it. With LAReQA's `sentences` the "
    "passage is the sentence that holds the answer's first character, otherwise the paragraph",
    recognises=lambda path: bool(language_names(Path(path), ".json")),
    reads=lambda path: Path(path).glob("*.json"),
    build=from_rows(lambda config, path: SquadSource(existing_folder(path), config.languages)),
)
