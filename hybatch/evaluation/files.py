"""Text files of publishers' layouts, line by line, plain or gzipped; what is wrong is named by file and line."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from hybatch.errors import UserError

HALF_A_PAIR = re.compile("[\ud800-\udfff]")
"""What JSON may escape and UTF-8 cannot express: half of a character that UTF-16 writes as two."""


def open_binary(path: Path) -> IO[bytes]:
    """The bytes of `path`; those inside where it is gzipped.

    Raises:
        UserError: there is no such file, or it cannot be opened.
    """
    try:
        return gzip.open(path) if path.suffix == ".gz" else open(path, "rb")  # type: ignore[return-value]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a UTF-8 text file; a byte order mark is passed over.

    Raises:
        UserError: the file is missing, not UTF-8, or a damaged archive.
    """
    number = 0
    with open_binary(path) as file:
        try:
            for number, line in enumerate(file, 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}:{number}: not UTF-8 text (byte {error.start} of the line); convert the file to UTF-8"
            ) from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{path}: damaged after line {number} ({error}); download it again") from error


def read_objects(path: Path, expected: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a file with one JSON object a line; blank lines are passed over.

    Args:
        expected: what an error says a line should be.

    Raises:
        UserError: as `read_lines`, or a line is not a JSON object.
    """
    for number, line in read_lines(path):
        if line.strip():
            yield number, parse_object(line, path, number, expected)


def parse_object(line: str | bytes, path: Path, number: int, expected: str) -> dict[str, Any]:
    """The object that one line holds.

    Raises:
        UserError: it does not parse, or is no object.
    """
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{number}: malformed JSON ({error.msg}, column {error.colno}); expected {expected}"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: not UTF-8 text (byte {error.start} of the line)") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}:{number}: malformed JSON ({error}); expected {expected}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}:{number}: not an object; expected {expected}")
    return value


def text_field(row: dict[str, Any], field: str, path: Path, number: int) -> str:
    """The text `row[field]`, numbers written as text.

    Raises:
        UserError: the field is missing, or neither text nor a whole number, or holds half a surrogate pair.
    """
    value = row.get(field)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        found = "is missing" if field not in row else f"is {value!r}, not text"
        raise UserError(f"{path}:{number}: field {field!r} {found}; the line has {', '.join(row) or 'no field'}")
    refuse_half_a_pair(value, f"field {field!r}", path, number)
    return value


def refuse_half_a_pair(text: str, name: str, path: Path, number: int) -> None:
    """Refuse what no tokenizer and no file takes, before anything is encoded.

    Raises:
        UserError: `text`, which a message calls `name`, holds half a surrogate pair.
    """
    if not text.isascii() and (half := HALF_A_PAIR.search(text)):
        raise UserError(
            f"{path}:{number}: {name} holds half a surrogate pair ({half[0]!a}), which is no text; take it out"
        )
