"""mMARCO's layout: queries and passages by id, one file a language, and triples or qrels over the ids.

The texts are stored once each and examples refer to them: the 39.8 million triples share 8.8 million passages and
half a million queries.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hybatch.corpus.formats.entry import FormatEntry
from hybatch.corpus.index.folder import CellPlaces, IndexWriter, NegativePlace, TextPlace
from hybatch.corpus.index.groups import PassageGroups
from hybatch.corpus.index.keys import Alignment, Keys, KeyTable, RepeatedKeyError, keys_of
from hybatch.corpus.rows import check_languages
from hybatch.errors import UserError

if TYPE_CHECKING:
    from hybatch.corpus.config import CorpusConfig

LANGUAGE_NAMES = {
    "ar": "arabic", "de": "german", "en": "english", "es": "spanish", "fr": "french", "hi": "hindi",
    "id": "indonesian", "it": "italian", "ja": "japanese", "nl": "dutch", "pt": "portuguese", "ru": "russian",
    "vi": "vietnamese", "zh": "chinese",
}  # fmt: skip
_LINES_AT_ONCE = 1 << 16
_TRIPLES = "triples.train.ids.small.tsv"


class MmarcoFiles:
    """The files of an mMARCO folder: the hub's repository, or its `google` or `helsinki` part with the triples beside.

    Raises:
        UserError: a file is missing.
    """

    def __init__(self, config: CorpusConfig, folder: Path) -> None:
        self.folder = folder
        self.split = config.split
        self._names = LANGUAGE_NAMES | (config.language_names or {})
        self._root = next((root for root in _roots(folder) if (root / "collections").is_dir()), None)
        if self._root is None:
            raise UserError(f"{folder}: no folder `collections`; expected mMARCO's layout, collections/ and queries/")
        there = [code for code in self._names if self._collection(code).is_file()]
        self.languages = check_languages(config.languages or there, str(folder))
        self.queries = {language: self._existing(self._queries(language)) for language in self.languages}
        self.passages = {language: self._existing(self._collection(language)) for language in self.languages}
        self.judgements = self._find_judgements(config.judgements)

    def _collection(self, language: str) -> Path:
        assert self._root is not None
        return self._root / "collections" / f"{self._names.get(language, language)}_collection.tsv"

    def _queries(self, language: str) -> Path:
        assert self._root is not None
        name = f"{self._names.get(language, language)}_queries.{self.split}.tsv"
        nested = self._root / "queries" / self.split / name
        return nested if nested.is_file() else self._root / "queries" / name

    def _existing(self, path: Path) -> Path:
        if not path.is_file():
            raise UserError(f"{path}: no such file; mMARCO's layout has one for every language asked for")
        return path

    def _find_judgements(self, name: str | None) -> Path:
        names = [name] if name else ([_TRIPLES] if self.split == "train" else []) + [f"qrels.{self.split}.tsv"]
        paths = [folder / name for name in names for folder in (self.folder, self.folder / "data")]
        for path in paths:
            if path.is_file():
                return path
        raise UserError(f"{paths[0]}: no triples and no qrels file; name one with `judgements`")

    def all_paths(self) -> list[Path]:
        """Every file that is read."""
        return [*self.queries.values(), *self.passages.values(), self.judgements]


def _roots(folder: Path) -> tuple[Path, ...]:
    return folder / "data" / "google", folder / "google", folder


def _build(config: CorpusConfig, path: str, directory: Path, *, fields: frozenset[str], progress: bool) -> None:
    folder = Path(path) if Path(path).is_dir() else download_mmarco(config, path)
    build_mmarco_index(MmarcoFiles(config, folder), directory, fields=fields, progress=progress)


def download_mmarco(config: CorpusConfig, hub_id: str) -> Path:
    """Fetch the files of the languages asked for from the hub's repository into the hub's own cache.

    Raises:
        UserError: the repository cannot be had.
    """
    from huggingface_hub import snapshot_download

    names = LANGUAGE_NAMES | (config.language_names or {})
    patterns = [config.judgements or _TRIPLES, f"qrels.{config.split}.tsv"]
    for language in config.languages or names:
        theirs = names.get(language, language)
        patterns += [f"google/collections/{theirs}_collection.tsv", f"google/queries/*{theirs}_queries.*.tsv"]
    try:
        folder = snapshot_download(
            hub_id,
            repo_type="dataset",
            revision=config.revision,
            allow_patterns=[f"data/{pattern}" for pattern in patterns],
        )
    except Exception as error:  # the library raises many kinds, and each means that this repository cannot be had
        raise UserError(f"{hub_id}: neither a folder nor to be had from the hub: {error}") from error
    return Path(folder)


def build_mmarco_index(files: MmarcoFiles, directory: Path, *, fields: frozenset[str], progress: bool) -> None:
    """Write the index of an mMARCO folder, with the note that `fields` are read, into the empty folder `directory`.

    Every triple (query, positive, negative), or every relevant pair of the qrels, is an example; examples of one
    query or one positive passage are of one passage group.

    Raises:
        UserError: a file or a line is bad; the message names it.
        OSError: the folder cannot be written or the disk is full.
    """
    writer = IndexWriter(directory, fields=fields)
    total = sum(path.stat().st_size for path in files.all_paths())
    with tqdm(total=total, unit="B", unit_scale=True, desc="indexing", disable=not progress, dynamic_ncols=True) as bar:
        queries = _TextTables("queries", files.queries, writer, bar)
        passages = _TextTables("passages", files.passages, writer, bar)
        _ExampleTables(files, queries, passages, writer, bar).write()


class _TextTables:
    """Texts by id in every language, numbered alike: the number of a text is that of its id over all languages."""

    def __init__(self, role: str, files: dict[str, Path], writer: IndexWriter, bar: tqdm) -> None:
        self.role = role
        alignment = Alignment()
        numbers: dict[str, NDArray[np.int64] | None] = {}
        lengths: dict[str, int] = {}
        for language, path in files.items():
            bar.set_postfix_str(path.name)
            keys: list[Keys] = []
            with writer.table(f"{role}.{language}", {"text": "text"}) as table:
                for ids, texts in _id_and_text(path, bar):
                    keys.append(keys_of(ids))
                    table.append({"text": texts})
            if not keys:
                raise UserError(f"{path}: the file is empty")
            try:
                numbers[language] = alignment.add(np.concatenate(keys))
            except RepeatedKeyError as error:
                lines = f"{error.first + 1} and {error.second + 1}"
                raise UserError(f"{path}: lines {lines} have the same id") from error
            lengths[language] = table.num_rows
        self.num_texts = len(alignment.keys)
        self.ids = KeyTable(alignment.keys)
        # Row of every number in a language: None where number i is row i, as in files of the same order.
        self.rows = {language: self._rows(numbers[language], lengths[language]) for language in files}

    def _rows(self, numbers: NDArray[np.int64] | None, length: int) -> NDArray[np.int64] | None:
        if numbers is None and length == self.num_texts:
            return None
        rows = np.full(self.num_texts, -1, dtype=np.int64)
        rows[np.arange(length) if numbers is None else numbers] = np.arange(length)
        return rows


def _blocks(path: Path, bar: tqdm) -> Iterator[tuple[int, list[bytes]]]:
    """(number of the first line, lines without their ends) of up to _LINES_AT_ONCE lines."""
    number = 1
    with open(path, "rb") as file:
        while lines := list(islice(file, _LINES_AT_ONCE)):
            bar.update(sum(map(len, lines)))
            if number == 1:
                lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
            yield number, [line.rstrip(b"\r\n") for line in lines]
            number += len(lines)


def _id_and_text(path: Path, bar: tqdm) -> Iterator[tuple[list[str], list[str]]]:
    for number, lines in _blocks(path, bar):
        ids, texts = [], []
        for offset, line in enumerate(lines):
            try:
                identifier, _, text = line.decode("utf-8").partition("\t")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}:{number + offset}: not UTF-8 text (byte {error.start} of the line); convert the file to "
                    "UTF-8"
                ) from error
            if not identifier or not text.strip():
                raise UserError(f"{path}:{number + offset}: expected an id, a tab and a text that is not empty")
            ids.append(identifier)
            texts.append(text)
        yield ids, texts


class _ExampleTables:
    """Examples from triples or qrels: numbers of their query, positive and, in triples, negative."""

    def __init__(
        self, files: MmarcoFiles, queries: _TextTables, passages: _TextTables, writer: IndexWriter, bar: tqdm
    ) -> None:
        self.files = files
        self.queries = queries
        self.passages = passages
        self.writer = writer
        self.columns: dict[str, NDArray[np.int64]] = {}
        bar.set_postfix_str(files.judgements.name)
        blocks = list(self._read(bar))
        if not sum(len(block) for block in blocks):
            raise UserError(f"{files.judgements}: no relevant pair in this file")
        self.numbers = np.concatenate(blocks)
        self.has_negatives = self.numbers.shape[1] == 3

    def _read(self, bar: tqdm) -> Iterator[NDArray[np.int64]]:
        """Numbers [n, 2 or 3] of blocks of lines; writes the examples' ids on the way."""
        path = self.files.judgements
        width = 0
        with self.writer.table("ids", {"id": "text"}) as table:
            for first, lines in _blocks(path, bar):
                # Bytes split at ASCII's white space only: any other character may be part of an id. One that is no
                # UTF-8 stands in no file of texts, and is refused as such.
                cells = [[cell.decode("utf-8", "replace") for cell in line.split()] for line in lines]
                width = width or len(cells[0])
                if width not in (3, 4) or any(len(row) != width for row in cells):
                    bad = next((i for i, row in enumerate(cells) if len(row) != width), 0)
                    raise UserError(
                        f"{path}:{first + bad}: expected 3 ids (query, positive, negative) or the 4 columns of qrels "
                        f"(query, 0, passage, relevance), as in the first line; found {len(cells[bad])} columns"
                    )
                if width == 4:
                    relevant = [i for i, row in enumerate(cells) if row[3] not in ("0", "-1")]
                    cells = [[cells[i][0], cells[i][2]] for i in relevant]
                    lines_of_rows: Sequence[int] = [first + i for i in relevant]
                else:
                    lines_of_rows = range(first, first + len(cells))
                table.append({"id": ["-".join(row) for row in cells]})
                yield self._numbers(cells, lines_of_rows)

    def _numbers(self, cells: list[list[str]], lines: Sequence[int]) -> NDArray[np.int64]:
        width = len(cells[0]) if cells else 2
        numbers = np.empty((len(cells), width), dtype=np.int64)
        for column in range(width):
            texts = self.queries if column == 0 else self.passages
            numbers[:, column] = texts.ids.find(keys_of(row[column] for row in cells))
            unknown = np.flatnonzero(numbers[:, column] < 0)
            if unknown.size:
                row = int(unknown[0])
                raise UserError(
                    f"{self.files.judgements}:{lines[row]}: id {cells[row][column]} stands in no {texts.role} file"
                )
        return numbers

    def write(self) -> None:
        """Write the tables that join the languages' texts."""
        groups = PassageGroups(len(self.numbers))
        groups.join_equal_numbers(self.numbers[:, 0])
        groups.join_equal_numbers(self.numbers[:, 1])
        passage_groups = groups.numbered()
        if self.has_negatives:
            group_of_passage = np.full(self.passages.num_texts, -1, dtype=np.int64)
            group_of_passage[self.numbers[:, 1]] = passage_groups
            self._write_negative_groups(group_of_passage)
        masks = {role: np.zeros(len(self.numbers), dtype=np.uint64) for role in ("question", "passage")}
        cells = {}
        for bit, language in enumerate(self.files.languages):
            question, question_rows = self._place(self.queries, language, "question", 0)
            passage, passage_rows = self._place(self.passages, language, "passage", 1)
            masks["question"][question_rows >= 0] |= np.uint64(1 << bit)
            masks["passage"][passage_rows >= 0] |= np.uint64(1 << bit)
            negatives = self._negative_place(language) if self.has_negatives else None
            cells[language] = CellPlaces(question, passage, negatives)
        self.writer.finish(
            cells,
            passage_groups=passage_groups,
            question_mask=masks["question"],
            passage_mask=masks["passage"],
            row_columns=self.columns,
        )

    def _place(self, texts: _TextTables, language: str, name: str, column: int) -> tuple[TextPlace, NDArray[np.int64]]:
        """Where a language keeps one role's texts, and the row [N] of every example; one column serves all alike."""
        rows_of_numbers = texts.rows[language]
        rows = self.numbers[:, column]
        if rows_of_numbers is not None:
            name = f"{name}.{language}"
            rows = rows_of_numbers[rows]
        self.columns.setdefault(name, rows)
        return TextPlace(f"{texts.role}.{language}", "text", name), self.columns[name]

    def _negative_place(self, language: str) -> NegativePlace:
        place, rows = self._place(self.passages, language, "first-negative", 2)
        first = str(place.row_column)
        count = first.replace("first-negative", "negatives")
        self.columns.setdefault(count, (rows >= 0).astype(np.int64))
        shared = self.passages.rows[language] is None
        group_table = "negative-groups" if shared else f"negative-groups.{language}"
        return NegativePlace(place.table, place.column, group_table, first, count)

    def _write_negative_groups(self, group_of_passage: NDArray[np.int64]) -> None:
        if any(rows is None for rows in self.passages.rows.values()):
            self.writer.write_numbers("negative-groups", {"group": group_of_passage})
        for language, rows in self.passages.rows.items():
            if rows is not None:
                present = np.flatnonzero(rows >= 0)
                groups = np.empty(len(present), dtype=np.int64)
                groups[rows[present]] = group_of_passage[present]
                self.writer.write_numbers(f"negative-groups.{language}", {"group": groups})


MMARCO = FormatEntry(
    name="mmarco",
    description="mMARCO's layout: collections and queries by id, one file a language, triples or qrels. Each text is "
    "stored once however many triples use it",
    recognises=lambda path: any((root / "collections").is_dir() for root in _roots(Path(path))),
    fields=frozenset(("negatives",)),
    build=_build,
)
