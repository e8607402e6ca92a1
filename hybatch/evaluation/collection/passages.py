"""The passages of a collection: files of one passage a line, scanned once and then read where they are wanted.

D passages, numbered in file order.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from hybatch.corpus.index.keys import Keys, KeyTable, first_occurrence, keys_of
from hybatch.errors import UserError
from hybatch.evaluation.files import open_binary, parse_object, text_field
from hybatch.processes import rank


class Passage(NamedTuple):
    """One passage; the title may be empty."""

    id: str
    title: str
    text: str

    @property
    def encoded(self) -> str:
        """What an encoder is given: the title, if any, a space, and the text."""
        return f"{self.title} {self.text}".strip()


LineReader = Callable[[bytes, Path, int], Passage]
"""Reads one line of a file, given its path and its number."""

SHARD_ROWS = 65536
_KEYS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Shard:
    """A run of consecutive passages, and where in the files the first of them stands."""

    number: int
    first: int
    rows: int
    file: int
    offset: int
    """Bytes before it in the file, unpacked."""
    line: int
    """Lines before it in the file."""


class Passages:
    """A collection in files; of every passage only the key of its id is held, 16 bytes.

    Args:
        name: what it is called in messages and in the folder of its embeddings.
        paths: the files in order, gzipped or plain; blank lines are passed over.
        read_line: how a line is read.
        header: whether each file's first line names its columns.
        shard_rows: passages a shard.

    Raises:
        UserError: a file is missing or damaged, a line does not parse (the message names it), an id stands twice, or
            there is no passage.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        read_line: LineReader,
        *,
        header: bool = False,
        shard_rows: int = SHARD_ROWS,
    ) -> None:
        self.name = name
        self.shards: list[Shard] = []
        self._paths = list(paths)
        self._read_line = read_line
        self._header = header
        self._shard_rows = shard_rows
        self._digest = hashlib.sha256()
        self._first_no_word: int | None = None
        keys = self._scan()
        self._num = len(keys)
        self._refuse_repeated(keys)
        self._table = KeyTable(keys)

    def __len__(self) -> int:
        return self._num

    @property
    def fingerprint(self) -> str:
        """A digest of every line: collections that share it are the same."""
        return self._digest.hexdigest()

    @property
    def no_word(self) -> str | None:
        """Place and id of the first passage whose id is empty or holds white space; None where there is none."""
        return None if self._first_no_word is None else "{}: id {!r}".format(*self._place(self._first_no_word))

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """The number of each passage by its id, -1 where there is none: int64 [len(ids)]."""
        return self._table.find(keys_of(ids)) if len(ids) else np.zeros(0, dtype=np.int64)

    def read(self, shard: Shard) -> Iterator[Passage]:
        """The passages of a shard, in order."""
        left = shard.rows
        offset, line = shard.offset, shard.line
        for path in self._paths[shard.file :]:
            for number, raw, _ in self._lines(path, offset, line):
                yield self._read_line(raw, path, number)
                left -= 1
                if not left:
                    return
            offset = line = 0

    def read_some(self, numbers: Sequence[int]) -> dict[int, Passage]:
        """The passages of these numbers, those below 0 left out; reads every shard that holds one of them."""
        wanted = np.unique(np.asarray(numbers, dtype=np.int64))
        found: dict[int, Passage] = {}
        for shard in self.shards:
            low, high = np.searchsorted(wanted, (shard.first, shard.first + shard.rows))
            if low == high:
                continue
            inside = set((wanted[low:high] - shard.first).tolist())
            for row, passage in enumerate(self.read(shard)):
                if row in inside:
                    found[shard.first + row] = passage
        return found

    def _lines(self, path: Path, offset: int = 0, line: int = 0) -> Iterator[tuple[int, bytes, int]]:
        """(number, line, unpacked bytes before it) of the lines that hold a passage."""
        with open_binary(path) as file:
            try:
                file.seek(offset)
                for raw in file:
                    line += 1
                    if raw.strip() and not (self._header and line == 1):
                        yield line, raw.rstrip(b"\r\n"), offset
                    offset += len(raw)
            except (EOFError, OSError, zlib.error) as error:
                raise UserError(f"{path}: damaged after line {line} ({error}); download it again") from error

    def _scan(self) -> Keys:
        found: list[Keys] = []
        ids: list[str] = []
        total = 0
        with tqdm(desc=f"reading {self.name}", unit="passage", disable=rank() > 0, leave=False) as bar:
            for file, path in enumerate(self._paths):
                for number, raw, offset in self._lines(path):
                    if total % self._shard_rows == 0:
                        self.shards.append(Shard(len(self.shards), total, 0, file, offset, number - 1))
                    identifier = self._read_line(raw, path, number).id
                    self._digest.update(raw + b"\n")
                    ids.append(identifier)
                    if self._first_no_word is None and not is_word(identifier):
                        self._first_no_word = total
                    total += 1
                    if len(ids) == _KEYS_AT_ONCE:
                        found.append(keys_of(ids))
                        bar.update(len(ids))
                        ids.clear()
        if not total:
            raise UserError(f"{', '.join(map(str, self._paths))}: no passage")
        found.append(keys_of(ids))
        ends = [shard.first for shard in self.shards[1:]] + [total]
        self.shards = [
            Shard(s.number, s.first, end - s.first, s.file, s.offset, s.line)
            for s, end in zip(self.shards, ends, strict=True)
        ]
        return np.concatenate(found)

    def _refuse_repeated(self, keys: Keys) -> None:
        first = first_occurrence(keys)
        repeated = np.flatnonzero(first != np.arange(len(first)))
        if len(repeated):
            second = int(repeated[0])
            places = {index: self._place(index) for index in (int(first[second]), second)}
            (where, identifier), (earlier, _) = places[second], places[int(first[second])]
            raise UserError(f"{where}: passage id {identifier!r} stands at {earlier} too; every id must be another")

    def _place(self, index: int) -> tuple[str, str]:
        """ "file:line" of a passage, and its id."""
        seen = 0
        for path in self._paths:
            for number, raw, _ in self._lines(path):
                if seen == index:
                    return f"{path}:{number}", self._read_line(raw, path, number).id
                seen += 1
        raise AssertionError(f"passage {index} of {seen}")


def is_word(identifier: str) -> bool:
    """Whether an id can stand in a file whose columns white space sets apart."""
    return len(identifier.split()) == 1 and not identifier[0].isspace() and not identifier[-1].isspace()


def json_lines(identifier: str, *, title: str = "title", text: str = "text") -> LineReader:
    """Lines of one object each.

    Args:
        identifier, title, text: the fields' names; the title may be missing.
    """
    expected = f'{{"{identifier}": ..., "{title}": ..., "{text}": ...}}'

    def read(line: bytes, path: Path, number: int) -> Passage:
        row = parse_object(line, path, number, expected)
        heading = text_field(row, title, path, number) if row.get(title) else ""
        return Passage(text_field(row, identifier, path, number), heading, text_field(row, text, path, number))

    return read
