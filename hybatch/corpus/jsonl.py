"""Folders of `<lang>.jsonl`: one JSON object a line, {"id", "question", "passage"[, "passage_id"][, "negatives"]}."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hybatch.corpus.rows import ROWS_PER_BATCH, RowBatch, check_languages, language_files
from hybatch.errors import UserError

_EXPECTED = 'expected one object a line: {"id": ..., "question": ..., "passage": ...}'


class JsonlSource:
    """Rows of the `<lang>.jsonl` files of a folder; blank lines are passed over.

    A row may lack "question" or "passage", not both; "negatives" is a list of texts. An id names the same content in
    every language.

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
                if not line.strip():
                    continue
                rows.append(_parse(line, path, number))
                lines.append(number)
                if len(rows) == ROWS_PER_BATCH:
                    yield _batch(rows, path, lines, size)
                    rows, lines, size = [], [], 0
        if rows:
            yield _batch(rows, path, lines, size)


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{number}: malformed JSON ({error.msg}, column {error.colno}); {_EXPECTED}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: not UTF-8 text (byte {error.start} of the line)") from error
    if not isinstance(row, dict):
        raise UserError(f"{path}:{number}: {_EXPECTED}")
    return row


def _batch(rows: list[dict[str, Any]], path: Path, lines: list[int], size: int) -> RowBatch:
    def column(name: str) -> list[Any]:
        return [row.get(name) for row in rows]

    passage_ids = column("passage_id")
    negatives = column("negatives")
    return RowBatch(
        ids=column("id"),
        questions=column("question"),
        passages=column("passage"),
        passage_ids=passage_ids if any(value is not None for value in passage_ids) else None,
        negatives=[[] if value is None else value for value in negatives] if any(negatives) else None,
        place=lambda row: f"{path}:{lines[row]}",
        work=size,
    )
