"""What an index folder holds: tables of texts, one table with a row an example, and `index.json` that ties them.

`index.json`: format, fingerprint, languages, num_examples, num_groups, has_hard_negatives, statistics, `tables`
(name -> columns, num_rows, digest), `cells` (language -> CellPlaces), `files` (name -> bytes, checksum), `fields` (the
optional fields of a row that its reader knew, in the source or not) and its own `checksum`. The table `examples` holds
per example `passage_group`, `question_mask`, `passage_mask` and the row columns that `cells` names; the table `ids` its
id. `equal-questions.<lang>.npy` says which examples ask the same (equal_questions.py).

Version 0.1.0 wrote neither `files` nor `checksum`, and nothing about equal questions; `fields` came later still. What
was found out about an index that lacks some of these stands beside it, in `adopted.json`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from hybatch.corpus.index.equal_questions import EqualQuestions, file_of, write_equal_questions
from hybatch.corpus.index.integrity import DamagedIndexError, check_sizes, checksum_of, describe_file, remember_verified
from hybatch.corpus.index.table import MappedTable, TableWriter, files_of_table

INDEX_FORMAT = 1
ADOPTED = "adopted.json"
_UNNOTED_FIELDS = ("passage_ids", "negatives", "joins")
"""What was read for indexes that do not say it."""
_SLICE = 1 << 20


@dataclass(frozen=True)
class TextPlace:
    """Where a language keeps its questions or passages.

    Example i stands in row i of the text column, or, with `row_column`, in the row that column of `examples` says;
    -1, a row past the end and an empty text mean that the language lacks it.
    """

    table: str
    column: str
    row_column: str | None = None


@dataclass(frozen=True)
class NegativePlace:
    """Where a language keeps hard negatives: rows first .. first + count - 1, both read from columns of `examples`.

    `group_table` has a column `group` parallel to the text column.
    """

    table: str
    column: str
    group_table: str
    first_column: str
    count_column: str


@dataclass(frozen=True)
class PositivePlace:
    """Where a language keeps the positives of examples that have several, or one with a score.

    They are rows first .. first + count - 1 of `place_table`, both read from columns of `examples`; count is 0 where
    the passage is the only one. Of each, `place` is the row of the text in the language's table of passages or, where
    negative, ~place that in the column `text` of `text_table`; `score` is a float64 in the bits of an int64.
    """

    text_table: str | None
    place_table: str
    first_column: str
    count_column: str


@dataclass(frozen=True)
class CellPlaces:
    """Where one language keeps its texts."""

    question: TextPlace
    passage: TextPlace
    negatives: NegativePlace | None = None
    positives: PositivePlace | None = None

    def as_dict(self) -> dict[str, Any]:
        """As index.json has it, which says nothing of positives where there is one passage an example."""
        places = asdict(self)
        if self.positives is None:
            del places["positives"]
        return places


@dataclass(frozen=True)
class CorpusStatistics:
    """Counts of a corpus; `shared_ids` is the share, 0 to 1, of examples that at least two languages have."""

    examples: int
    passage_groups: int
    questions: dict[str, int]
    passages: dict[str, int]
    shared_ids: float


class IndexWriter:
    """Write an index into an empty folder: tables first, in any order, then `finish` once.

    `fields` are the optional fields of a row that are read where the source has them (`RowBatch`).
    """

    def __init__(self, directory: Path, *, fields: frozenset[str] = frozenset()) -> None:
        self.directory = directory
        self.fields = fields
        self._tables: dict[str, dict[str, Any]] = {}

    @contextmanager
    def table(self, name: str, columns: Mapping[str, str]) -> Iterator[TableWriter]:
        """Write the table `name` whole; `columns` maps names to "text", "int64" or "uint64"."""
        with TableWriter(self.directory / f"{name}.arrow", columns) as writer:
            yield writer
        self._tables[name] = writer.describe()

    def write_numbers(self, name: str, columns: Mapping[str, NDArray[Any]]) -> None:
        """Write a table of parallel number columns [n]."""
        kinds = {column: str(values.dtype) for column, values in columns.items()}
        with self.table(name, kinds) as writer:
            for start in range(0, len(next(iter(columns.values()))), _SLICE):
                writer.append({column: values[start : start + _SLICE] for column, values in columns.items()})

    def finish(
        self,
        cells: Mapping[str, CellPlaces],
        *,
        passage_groups: NDArray[np.int64],
        question_mask: NDArray[np.uint64],
        passage_mask: NDArray[np.uint64],
        row_columns: Mapping[str, NDArray[np.int64]],
        questions_differ: bool = False,
    ) -> None:
        """Write the table `examples` and `index.json`; the table `ids` must stand.

        Args:
            cells: language -> its places, languages in alphabetical order.
            passage_groups: [N] dense group of every example.
            question_mask, passage_mask: [N]; bit k says that languages[k] has the text.
            row_columns: name -> [N], the columns that `cells` names.
            questions_differ: no question stands twice in a language; otherwise that is looked for.
        """
        masks = {"question_mask": question_mask, "passage_mask": passage_mask}
        self.write_numbers("examples", {"passage_group": passage_groups, **masks, **row_columns})
        statistics = count_corpus(list(cells), passage_groups, question_mask, passage_mask)
        places = {language: cell.as_dict() for language, cell in cells.items()}
        equal_questions = () if questions_differ else self._find_equal_questions(cells, question_mask, row_columns)
        index: dict[str, Any] = {
            "format": INDEX_FORMAT,
            "fingerprint": fingerprint(places, self._tables),
            "languages": list(cells),
            "num_examples": len(passage_groups),
            "num_groups": statistics.passage_groups,
            "has_hard_negatives": any(cell.negatives is not None for cell in cells.values()),
            "statistics": asdict(statistics),
            "tables": self._tables,
            "cells": places,
            "fields": sorted(self.fields),
            "files": describe_files(self.directory, self._tables, equal_questions),
        }
        index["checksum"] = checksum_of(index)
        (self.directory / "index.json").write_text(json.dumps(index, indent=1, ensure_ascii=False), encoding="utf-8")
        remember_verified(self.directory, index["files"])

    def _find_equal_questions(
        self,
        cells: Mapping[str, CellPlaces],
        question_mask: NDArray[np.uint64],
        row_columns: Mapping[str, NDArray[np.int64]],
    ) -> list[str]:
        def table(name: str) -> MappedTable:
            described = self._tables[name]
            return MappedTable(self.directory / f"{name}.arrow", described["columns"], described["num_rows"])

        places = [cell.question for cell in cells.values()]
        return find_equal_questions(self.directory, list(cells), places, question_mask, row_columns.__getitem__, table)


def find_equal_questions(
    directory: Path,
    languages: Sequence[str],
    places: Sequence[TextPlace],
    question_mask: NDArray[np.uint64],
    row_column: Callable[[str], NDArray[np.int64]],
    table: Callable[[str], MappedTable],
) -> list[str]:
    """Write which examples ask the same, and return the names of the files: those of the languages that have such."""
    written = []
    for bit, (language, place) in enumerate(zip(languages, places, strict=True)):
        examples = np.flatnonzero(question_mask & np.uint64(1 << bit))
        rows = examples if place.row_column is None else row_column(place.row_column)[examples]
        texts = partial(table(place.table).texts, place.column)
        if write_equal_questions(directory / file_of(language), examples, rows, texts):
            written.append(file_of(language))
    return written


def fingerprint(places: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Names the content of an index: `cells` and `tables` of its index.json."""
    digests = sorted((name, table["columns"], table["digest"]) for name, table in tables.items())
    content = json.dumps([INDEX_FORMAT, places, digests], sort_keys=True, ensure_ascii=False)
    return str(xxhash.xxh3_128_hexdigest(content.encode()))


def describe_files(directory: Path, tables: Iterable[str], others: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`files` of index.json: name -> size and checksum of every file of the tables, and of others."""
    names = [path.name for table in tables for path in files_of_table(directory / f"{table}.arrow")]
    return {name: describe_file(directory / name) for name in (*names, *others)}


def count_corpus(
    languages: list[str],
    passage_groups: NDArray[np.int64],
    question_mask: NDArray[np.uint64],
    passage_mask: NDArray[np.uint64],
) -> CorpusStatistics:
    """Count what a corpus holds; arguments as for IndexWriter.finish."""

    def per_language(mask: NDArray[np.uint64]) -> dict[str, int]:
        bits = [np.uint64(1 << k) for k in range(len(languages))]
        return {code: int(np.count_nonzero(mask & bit)) for code, bit in zip(languages, bits, strict=True)}

    num_examples = len(passage_groups)
    shared = int(np.count_nonzero(np.bitwise_count(question_mask | passage_mask) >= 2))
    return CorpusStatistics(
        examples=num_examples,
        passage_groups=int(passage_groups.max(initial=-1)) + 1,
        questions=per_language(question_mask),
        passages=per_language(passage_mask),
        shared_ids=shared / num_examples if num_examples else 0.0,
    )


class Index:
    """An index folder, opened; tables are mapped when first asked for.

    Attributes:
        files: name -> size and checksum of every file; None of an index of version 0.1.0 that was not adopted yet.
        fields: the optional fields of a row that it has where the source has them (`RowBatch`).

    Raises:
        DamagedIndexError: `index.json` is missing or not as it was written, or a file is of another size.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: dict[str, dict[str, Any]] | None = None
        content = _read_json(directory / "index.json")
        try:
            self._take(content)
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedIndexError(directory / "index.json", f"not as it was written ({error!r})") from error
        # Where it cannot be read the index is looked through again.
        with contextlib.suppress(DamagedIndexError, KeyError, TypeError, AttributeError):
            adopted = _read_json(directory / ADOPTED)
            self.fields |= frozenset(adopted.get("fields", ()))
            self.files = self.files or adopted["files"]
        if self.files is not None:
            check_sizes(directory, self.files)
        self._equal_questions: dict[str, EqualQuestions] = {}

    def _take(self, content: Any) -> None:
        if "checksum" in content:
            if content["checksum"] != checksum_of(content):
                raise DamagedIndexError(self.directory / "index.json", "not as it was written (checksum)")
            self.files = content["files"]
        self.fields: frozenset[str] = frozenset(content.get("fields", _UNNOTED_FIELDS))
        self.places: dict[str, Any] = content["cells"]
        self.fingerprint: str = content["fingerprint"]
        self.languages: tuple[str, ...] = tuple(content["languages"])
        self.num_examples: int = content["num_examples"]
        self.num_groups: int = content["num_groups"]
        self.has_hard_negatives: bool = content["has_hard_negatives"]
        self.statistics = CorpusStatistics(**content["statistics"])
        self.cells = [_cell_places(content["cells"][language]) for language in self.languages]
        self.tables: dict[str, dict[str, Any]] = content["tables"]
        self._tables: dict[str, MappedTable] = {}

    def table(self, name: str) -> MappedTable:
        """The mapped table `name`."""
        if name not in self._tables:
            description = self.tables[name]
            path = self.directory / f"{name}.arrow"
            self._tables[name] = MappedTable(path, description["columns"], description["num_rows"])
        return self._tables[name]

    def equal_questions(self, language: str) -> EqualQuestions | None:
        """Which examples ask the same in a language; None where all questions differ."""
        name = file_of(language)
        if self.files is None or name not in self.files:
            return None
        if name not in self._equal_questions:
            self._equal_questions[name] = EqualQuestions(self.directory / name)
        return self._equal_questions[name]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DamagedIndexError(path, f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DamagedIndexError(path, f"not as it was written ({error})") from error


def _cell_places(places: dict[str, Any]) -> CellPlaces:
    negatives, positives = places["negatives"], places.get("positives")
    return CellPlaces(
        question=TextPlace(**places["question"]),
        passage=TextPlace(**places["passage"]),
        negatives=None if negatives is None else NegativePlace(**negatives),
        positives=None if positives is None else PositivePlace(**positives),
    )
