"""Data files of text, read as they are written: CSV, TSV, JSON lines, JSON lists. No cell is taken for anything else.

Of CSV and TSV every cell is a text, an empty one is none. In CSV a cell may stand in quotation marks, which are doubled
inside; in TSV a quotation mark is a character like any other. The first row names the columns.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hybatch.corpus.formats.jsonl import mend_encoding, parse_object
from hybatch.corpus.rows import Columns, Place
from hybatch.errors import UserError
from hybatch.paths import check_fetched

Kind = Literal["csv", "tsv", "json"]
KINDS: dict[str, Kind] = {".csv": "csv", ".tsv": "tsv", ".jsonl": "json", ".json": "json"}
"""Ending of a file's name, without a last `.gz` -> how it is read."""
_EXPECTED = "expected one object a line"
_ROWS_AT_ONCE = 1024
_CARRIAGE_RETURN = (
    "a carriage return stands where no line ends, as in files of old Macintosh programs: save the file with line ends "
    "of Unix or Windows, or put the text that holds it in quotation marks"
)


def kind_of(path: Path) -> Kind | None:
    """How a file of this name is read; None of an ending that is not known."""
    return KINDS.get(Path(path.name.removesuffix(".gz")).suffix)


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """One data file.

    Attributes:
        path: the file; packed with gzip if its content says so.
        name: what messages call it.
        delimiter: between the cells of a row; a file of kind "tsv" knows no quotation marks, whatever it is.
        header: the names of the columns, where the file itself has none.
        encoding: of the bytes.
        field: the key of a JSON document under which its list stands; None where the document is the list, or where
            every line is an object.
    """

    path: Path
    name: str
    kind: Kind
    delimiter: str
    header: Sequence[str] | None = None
    encoding: str = "utf-8"
    field: str | None = None

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(where it stands, the row) in file order.

        Raises:
            UserError: the file is malformed; the message names the line.
        """
        if self.kind == "json":
            return self._json_rows()
        return self._named_cells(self._csv_cells() if self.kind == "csv" else self._tsv_cells())

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """(number from 1, line with its end), unpacked, without a byte order mark."""
        check_fetched(self.path, self.name)
        with open(self.path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(self.path) if packed else open(self.path, "rb") as file:
            number = 0
            try:
                for number, line in enumerate(file, 1):
                    yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise UserError(f"{self.name}: the packed file is damaged after line {number} ({error})") from error

    def _decoded(self) -> Iterator[str]:
        for number, line in self._lines():
            try:
                yield line.decode(self.encoding)
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{self.name}:{number}: not {self.encoding.upper()} text (byte {error.start} of the line); "
                    f"{mend_encoding(line)}"
                ) from error

    def _csv_cells(self) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(self._decoded(), delimiter=self.delimiter, strict=True)
        while rows := self._next_cells(reader):
            yield from rows

    def _next_cells(self, reader: Any) -> list[tuple[int, list[str]]]:
        """(number of its first line, cells) of the next rows; [] at the end."""
        rows: list[tuple[int, list[str]]] = []
        # The limit, one for the whole process, is of 131,072 characters: texts may be longer.
        limit = csv.field_size_limit(sys.maxsize)
        first = reader.line_num + 1
        try:
            for row in islice(reader, _ROWS_AT_ONCE):
                rows.append((first, row))
                first = reader.line_num + 1
        except csv.Error as error:
            if "new-line character" in str(error):
                raise UserError(f"{self.name}:{first}: {_CARRIAGE_RETURN}") from error
            raise UserError(
                f"{self.name}:{first}: a quotation mark of the row that begins here has no partner ({error}, line "
                f"{reader.line_num}); put the cell in quotation marks and double those inside, or take it out"
            ) from error
        finally:
            csv.field_size_limit(limit)
        return rows

    def _tsv_cells(self) -> Iterator[tuple[int, list[str]]]:
        for number, line in enumerate(self._decoded(), 1):
            line = line.removesuffix("\n").removesuffix("\r")
            yield number, line.split(self.delimiter) if line else []

    def _named_cells(self, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[str, dict[str, Any]]]:
        header = self.header
        for number, row in rows:
            if not row:
                continue
            if header is None:
                header = row
                if any("\r" in name for name in row):
                    raise UserError(f"{self.name}:{number}: {_CARRIAGE_RETURN}")
                for name in filter(None, row):
                    if row.count(name) > 1:
                        raise UserError(f"{self.name}:{number}: column {name!r} stands twice; rename one of them")
                continue
            if len(row) != len(header):
                mend = self._mend_cells(len(header))
                raise UserError(f"{self.name}:{number}: {len(row)} cells, but {len(header)} columns; {mend}")
            yield f"{self.name}:{number}", {name: cell or None for name, cell in zip(header, row, strict=True)}

    def _mend_cells(self, columns: int) -> str:
        if self.kind == "tsv":
            return f"a row has {columns - 1} of {self.delimiter!r}, and no text holds one"
        return f"put a text that holds {self.delimiter!r} or a line's end in quotation marks"

    def _json_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self.field is not None or self._is_list():
            yield from self._json_items()
            return
        for number, line in self._lines():
            if line.strip():
                place = f"{self.name}:{number}"
                yield place, parse_object(line, place, _EXPECTED)

    def _is_list(self) -> bool:
        return next((line.lstrip()[:1] == b"[" for _, line in self._lines() if line.strip()), False)

    def _json_items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            document = json.loads("".join(self._decoded()))
        except (ValueError, RecursionError) as error:
            line = getattr(error, "lineno", 1)
            raise UserError(f"{self.name}:{line}: malformed JSON ({error}); expected a list of objects") from error
        if self.field is not None:
            document = document.get(self.field) if isinstance(document, dict) else None
        if not isinstance(document, list):
            raise UserError(f"{self.name}: no list under {self.field!r}; expected a list of objects there")
        for item, row in enumerate(document):
            if not isinstance(row, dict):
                raise UserError(f"{self.name}: item {item} is no object; expected a list of objects")
            yield f"{self.name}: item {item}", row


def local_file(path: Path, kind: Kind) -> TextFile:
    """A file on this machine, as its name says."""
    return TextFile(path=path, name=str(path), kind=kind, delimiter="\t" if kind == "tsv" else ",")


class TextPart(NamedTuple):
    """The rows start .. stop - 1 of some files; all without them."""

    files: Sequence[TextFile]
    start: int = 0
    stop: int | None = None


class TextSplit:
    """The rows of some data files, one after the other."""

    def __init__(self, parts: Sequence[TextPart]) -> None:
        self._parts = parts
        self._columns: list[str] | None = None

    @property
    def column_names(self) -> list[str]:
        """Every column that a row has; reads the files once."""
        if self._columns is None:
            self._columns = list(dict.fromkeys(name for _, row in self._rows() for name in row))
        return self._columns

    def unique(self, column: str) -> list[Any]:
        """The distinct values of a column, by first appearance."""
        values: dict[Any, None] = {}
        for place, row in self._rows():
            value = row.get(column)
            if not isinstance(value, str | None):
                raise UserError(f"{place}: {column!r} is {value!r}, not a text; put it in quotes")
            values[value] = None
        return list(values)

    def batches(self, size: int) -> Iterator[tuple[Columns, Place]]:
        """(columns of up to `size` rows, where each row stands)."""
        rows = self._rows()
        while part := list(islice(rows, size)):
            places = [place for place, _ in part]
            names = dict.fromkeys(name for _, row in part for name in row)
            yield {name: [row.get(name) for _, row in part] for name in names}, places.__getitem__

    def _rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for part in self._parts:
            yield from islice((row for file in part.files for row in file.rows()), part.start, part.stop)
