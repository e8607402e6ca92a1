"""Folders of `<lang>.jsonl`: one JSON object a line, {"id", "question", "passage"}.

Optional are "passage_id", "negatives", "positives" and "scores".
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hybatch.corpus.formats.entry import FormatEntry, from_rows
from hybatch.corpus.rows import (
    ROWS_PER_BATCH,
    RowBatch,
    check_languages,
    existing_folder,
    language_files,
    language_names,
    meant_by,
)
from hybatch.errors import UserError

_EXPECTED = 'expected one object a line: {"id": ..., "question": ..., "passage": ...}'
_FIELDS = frozenset(("id", "question", "passage", "passage_id", "negatives", "positives"))


class JsonlSource:
    """Rows of the `<lang>.jsonl` files of a folder; blank lines and a byte order mark are passed over.

    A row may lack "question" or "passage", not both; "negatives" is a list of texts, "scores" a list of numbers: of
    the passage and of each negative; "positives" is what `hybatch.corpus.positives` says. An id names the same content
    in every language. Other fields are left alone, but not one that is named almost like a field that the row lacks: a
    misspelt "questions" would silently leave a language without any.

    Raises:
        UserError: the folder has no such file, or lacks that of a language asked for.
    """

    work_unit = "B"

    def __init__(self, folder: Path, languages: Sequence[str] | None) -> None:
        self.place = str(folder)
        self.files = language_files(folder, ".jsonl", languages)
        self.languages = check_languages(list(self.files), str(folder))
        self.total_work = sum(path.stat().st_size for path in self.files.values())

    def batches(self, language: str) -> Iterator[RowBatch]:
        """The rows of one language, in file order."""
        path = self.files[language]
        rows: list[dict[str, Any]] = []
        lines: list[int] = []
        size = 0
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                size += len(line)
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if not line.strip():
                    continue
                rows.append(_checked(parse_object(line, f"{path}:{number}", _EXPECTED), f"{path}:{number}"))
                lines.append(number)
                if len(rows) == ROWS_PER_BATCH:
                    yield _batch(rows, path, lines, size)
                    rows, lines, size = [], [], 0
        if rows:
            yield _batch(rows, path, lines, size)


def parse_object(line: bytes, place: str, expected: str) -> dict[str, Any]:
    """The JSON object that a line is.

    Args:
        place: file and line, for messages.
        expected: what a message says should stand there.

    Raises:
        UserError: the line is not UTF-8, not JSON or no object.
    """
    try:
        row = json.loads(line.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: malformed JSON ({error.msg}, column {error.colno}); {expected}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 text (byte {error.start} of the line); {mend_encoding(line)}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: malformed JSON ({error}); {expected}") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}: {expected}")
    return row


def mend_encoding(line: bytes) -> str:
    """What to do about a line that is not UTF-8."""
    if line.startswith(b"\x1f\x8b"):
        return "the file is gzipped: unpack it"
    kind = " from UTF-16" if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else ""
    return f"convert the file{kind} to UTF-8"


def _checked(row: dict[str, Any], place: str) -> dict[str, Any]:
    for name in row.keys() - _FIELDS:
        meant = meant_by(name, _FIELDS)
        if meant and row.get(meant) is None:
            raise UserError(f"{place}: there is no field {name!r}; rename it to {meant!r} if that is meant")
    return row


def _batch(rows: list[dict[str, Any]], path: Path, lines: list[int], size: int) -> RowBatch:
    def column(name: str) -> list[Any]:
        return [row.get(name) for row in rows]

    passage_ids = column("passage_id")
    negatives, positives = column("negatives"), column("positives")
    scores = column("scores")
    return RowBatch(
        ids=column("id"),
        questions=column("question"),
        passages=column("passage"),
        passage_ids=passage_ids if any(value is not None for value in passage_ids) else None,
        negatives=[[] if value is None else value for value in negatives] if any(negatives) else None,
        positives=positives if any(value is not None for value in positives) else None,
        scores=scores if any(value is not None for value in scores) else None,
        place=lambda row: f"{path}:{lines[row]}",
        work=size,
    )


JSONL = FormatEntry(
    name="jsonl",
    description='folder of `<lang>.jsonl`; rows `{"id", "question", "passage"}`, optional `"passage_id"`, '
    '`"negatives": [...]`, `"positives": [...]` and `"scores": [...]`; a row may lack `question` or `passage`',
    recognises=lambda path: bool(language_names(Path(path), ".jsonl")),
    reads=lambda path: Path(path).glob("*.jsonl"),
    fields=frozenset(("passage_ids", "negatives", "positives", "scores")),
    build=from_rows(lambda config, path: JsonlSource(existing_folder(path), config.languages)),
)
