"""Turn a stream of rows into an index: number the ids, write the texts, find the passage groups."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hybatch.corpus.index.folder import CellPlaces, IndexWriter, NegativePlace, TextPlace
from hybatch.corpus.index.groups import PassageGroups
from hybatch.corpus.index.keys import (
    Alignment,
    Keys,
    KeySpool,
    KeyTable,
    RepeatedKeyError,
    keys_of,
)
from hybatch.corpus.index.positives import ListedPositives
from hybatch.corpus.index.scores import GatheredScores
from hybatch.corpus.index.table import MappedTable, TableWriter
from hybatch.corpus.positives import with_positives
from hybatch.corpus.rows import RowBatch, RowSource, check_batch, check_fields
from hybatch.errors import UserError

_ROWS_COPIED_AT_ONCE = 1 << 16


def build_index(source: RowSource, directory: Path, *, fields: frozenset[str], progress: bool) -> None:
    """Write the index of `source`, whose rows have no other optional fields than `fields`, into the empty `directory`.

    Texts are streamed to disk in the order of the files, and the keys of passages with them. In memory stay, per
    example, its id's key, masks and group, and the same for the language being read: 100 to 200 bytes an example
    at the peak, whatever the texts' length.

    Raises:
        UserError: a row is bad; the message names its place.
        OSError: the folder cannot be written or the disk is full.
        ValueError: a row has a further field.
    """
    builder = _IndexBuilder(source, IndexWriter(directory, fields=fields))
    with tqdm(
        total=source.total_work,
        unit=source.work_unit,
        unit_scale=True,
        desc="indexing",
        disable=not progress,
        dynamic_ncols=True,
    ) as bar:
        with builder.writer.table("ids", {"id": "text"}) as ids:
            for bit, language in enumerate(source.languages):
                bar.set_postfix_str(language)
                builder.add_language(language, bit, ids, bar)
        bar.set_postfix_str("passage groups")
        builder.finish()


@dataclass
class _Gathered:
    """What one language leaves in memory while it streams by: keys, and which rows have which text."""

    ids: list[Keys] = field(default_factory=list)
    has_question: list[NDArray[np.bool_]] = field(default_factory=list)
    has_passage: list[NDArray[np.bool_]] = field(default_factory=list)
    has_joins: bool = False
    negatives: list[Keys] = field(default_factory=list)
    negative_counts: list[NDArray[np.int64]] = field(default_factory=list)
    scores: GatheredScores = field(default_factory=GatheredScores)


class _IndexBuilder:
    def __init__(self, source: RowSource, writer: IndexWriter) -> None:
        self.source = source
        self.writer = writer
        self.alignment = Alignment()
        self.question_mask = np.zeros(0, dtype=np.uint64)
        self.passage_mask = np.zeros(0, dtype=np.uint64)
        self.examples_of_rows: dict[str, NDArray[np.int64] | None] = {}
        self.negative_counts: dict[str, NDArray[np.int64]] = {}
        self.negative_keys: dict[str, Keys] = {}
        self.has_passage_ids: bool | None = None
        self.passages = KeySpool(writer.directory / "passages")
        self.passage_ids = KeySpool(writer.directory / "passage-ids")
        self.joins = KeySpool(writer.directory / "joins")
        self.positives = ListedPositives()

    def add_language(self, language: str, bit: int, ids: TableWriter, bar: tqdm) -> None:
        """Read one language whole; `bit` is its place in the masks."""
        gathered = _Gathered()
        waiting_ids = self.writer.directory / "waiting-ids.arrow"
        with ExitStack() as stack:
            texts = stack.enter_context(self.writer.table(f"texts.{language}", {"question": "text", "passage": "text"}))
            negatives: TableWriter | None = None
            positives: TableWriter | None = None
            # Which ids of a later language are new is known only once all of them have been seen.
            new_ids = ids if bit == 0 else stack.enter_context(TableWriter(waiting_ids, {"id": "text"}))
            for batch in map(with_positives, self.source.batches(language)):
                self._check(batch)
                if batch.negatives is not None and negatives is None:
                    table = self.writer.table(f"negatives.{language}", {"text": "text"})
                    negatives = stack.enter_context(table)
                if batch.positives is not None and positives is None:
                    table = self.writer.table(f"positives.{language}", {"text": "text"})
                    positives = stack.enter_context(table)
                self._add_batch(language, batch, gathered, texts, new_ids, negatives, positives)
                bar.update(batch.work)
        if texts.num_rows == 0:
            raise UserError(f"{self.source.place}: no row in {language}; add some, or name the others in `languages`")
        examples = self._number_rows(language, gathered)
        if bit > 0:
            self._append_new_ids(MappedTable(waiting_ids, {"id": "text"}, texts.num_rows), examples, ids)
            waiting_ids.unlink()
            waiting_ids.with_suffix(".buffers.npy").unlink()
        self._place_rows(language, bit, examples, gathered, has_negatives=negatives is not None)
        gathered.scores.write(self.writer, language)

    def _check(self, batch: RowBatch) -> None:
        check_fields(batch, self.writer.fields, self.source.place)
        check_batch(batch)
        if any(passage is not None for passage in batch.passages):
            has_passage_ids = batch.passage_ids is not None
            if self.has_passage_ids not in (None, has_passage_ids):
                raise UserError(
                    f"{batch.place(0)}: passage_id stands in some rows of the corpus but not in others; give it to "
                    "every row that has a passage, or to none"
                )
            self.has_passage_ids = has_passage_ids

    def _add_batch(
        self,
        language: str,
        batch: RowBatch,
        gathered: _Gathered,
        texts: TableWriter,
        ids: TableWriter,
        negatives: TableWriter | None,
        positives: TableWriter | None,
    ) -> None:
        try:
            if batch.positives is not None and positives is not None:
                self.positives.add(language, batch, texts.num_rows, positives)
            gathered.ids.append(keys_of(batch.ids))
            self.passages.append_keys(keys_of(text for text in batch.passages if text is not None))
            if batch.passage_ids is not None:
                pairs = zip(batch.passages, batch.passage_ids, strict=True)
                self.passage_ids.append_keys(keys_of(passage_id for text, passage_id in pairs if text is not None))
            if batch.joins is not None:
                gathered.has_joins = True
                self.joins.append_keys(keys_of(batch.joins))
            ids.append({"id": batch.ids})
            texts.append(
                {
                    "question": [text or "" for text in batch.questions],
                    "passage": [text or "" for text in batch.passages],
                }
            )
            if batch.negatives is not None and negatives is not None:
                flat = [text for texts_of_row in batch.negatives for text in texts_of_row]
                gathered.negatives.append(keys_of(flat))
                negatives.append({"text": flat})
        except UnicodeEncodeError as error:
            raise UserError(
                f"{_place_of_half_character(batch)}: a text holds half a surrogate pair; write the whole character, or "
                "take it out"
            ) from error
        gathered.has_question.append(np.array([text is not None for text in batch.questions], dtype=bool))
        gathered.has_passage.append(np.array([text is not None for text in batch.passages], dtype=bool))
        counts = batch.negatives or [[]] * len(batch.ids)
        gathered.negative_counts.append(np.array([len(row) for row in counts], dtype=np.int64))
        gathered.scores.add(batch)

    def _number_rows(self, language: str, gathered: _Gathered) -> NDArray[np.int64] | None:
        """The example of every row; None where row i is example i."""
        keys = np.concatenate(gathered.ids)
        gathered.ids.clear()
        try:
            return self.alignment.add(keys)
        except RepeatedKeyError as error:
            first, second = (_place_of_row(self.source, language, row) for row in (error.first, error.second))
            raise UserError(f"{second}: this id stands already at {first}; an id may stand once a language") from error

    def _append_new_ids(self, waiting: MappedTable, examples: NDArray[np.int64] | None, ids: TableWriter) -> None:
        numbers = np.arange(waiting.num_rows) if examples is None else examples
        new = np.flatnonzero(numbers >= len(self.question_mask))
        for start in range(0, len(new), _ROWS_COPIED_AT_ONCE):
            ids.append({"id": waiting.texts("id", new[start : start + _ROWS_COPIED_AT_ONCE])})

    def _place_rows(
        self,
        language: str,
        bit: int,
        examples: NDArray[np.int64] | None,
        gathered: _Gathered,
        *,
        has_negatives: bool,
    ) -> None:
        """Note the language's part in masks, groups and row columns."""
        self.examples_of_rows[language] = examples
        has_question, has_passage = np.concatenate(gathered.has_question), np.concatenate(gathered.has_passage)
        rows = np.arange(len(has_passage)) if examples is None else examples
        self.positives.place_rows(language, rows)
        num_new = len(self.alignment.keys) - len(self.question_mask)
        self.question_mask = np.concatenate([self.question_mask, np.zeros(num_new, dtype=np.uint64)])
        self.passage_mask = np.concatenate([self.passage_mask, np.zeros(num_new, dtype=np.uint64)])
        self.question_mask[rows[has_question]] |= np.uint64(1 << bit)
        self.passage_mask[rows[has_passage]] |= np.uint64(1 << bit)
        self.passages.append_examples(rows[has_passage])
        if self.has_passage_ids:
            self.passage_ids.append_examples(rows[has_passage])
        if gathered.has_joins:
            self.joins.append_examples(rows)
        if has_negatives:
            self.negative_counts[language] = np.concatenate(gathered.negative_counts)
            self.negative_keys[language] = np.concatenate(gathered.negatives)

    def finish(self) -> None:
        """Find the passage groups and write what joins the languages' tables."""
        groups = PassageGroups(len(self.question_mask))
        groups.join_equal_keys(*(self.passage_ids if self.has_passage_ids else self.passages).read())
        groups.join_equal_keys(*self.joins.read())
        if self.positives:
            self.positives.join(
                groups,
                self.passages.read(),
                self.passage_ids.read(),
                lambda language, row: _place_of_row(self.source, language, row),
            )
        passage_groups = groups.numbered()
        if self.negative_keys:
            self._write_negative_groups(passage_groups)
        columns: dict[str, NDArray[np.int64]] = {}
        cells = {language: self._cell(language, columns) for language in self.source.languages}
        if self.positives:
            cells = self._with_positives(cells, columns)
        for spool in (self.passages, self.passage_ids, self.joins):
            spool.remove()
        self.writer.finish(
            cells,
            passage_groups=passage_groups,
            question_mask=self.question_mask,
            passage_mask=self.passage_mask,
            row_columns=columns,
        )

    def _write_negative_groups(self, passage_groups: NDArray[np.int64]) -> None:
        passage_keys, passage_examples = self.passages.read()
        if self.positives:
            keys, examples = self.positives.texts()
            passage_keys = np.concatenate([passage_keys, keys])
            passage_examples = np.concatenate([passage_examples, examples])
        table = KeyTable(passage_keys)
        for language, keys in self.negative_keys.items():
            found = table.find(keys)
            known = found >= 0
            groups = np.full(len(keys), -1, dtype=np.int64)
            groups[known] = passage_groups[passage_examples[found[known]]]
            self.writer.write_numbers(f"negative-groups.{language}", {"group": groups})

    def _cell(self, language: str, columns: dict[str, NDArray[np.int64]]) -> CellPlaces:
        """Add the row columns that `language` needs to `columns` and say where its texts are."""
        num_examples = len(self.question_mask)
        examples = self.examples_of_rows[language]
        row_column = None
        if examples is not None:
            row_column = f"row.{language}"
            columns[row_column] = np.full(num_examples, -1, dtype=np.int64)
            columns[row_column][examples] = np.arange(len(examples))
        negatives = None
        if language in self.negative_counts:
            counts = self.negative_counts[language]
            rows = np.arange(len(counts)) if examples is None else examples
            first_column, count_column = f"first-negative.{language}", f"negatives.{language}"
            columns[first_column] = np.zeros(num_examples, dtype=np.int64)
            columns[first_column][rows] = np.cumsum(counts) - counts
            columns[count_column] = np.zeros(num_examples, dtype=np.int64)
            columns[count_column][rows] = counts
            negatives = NegativePlace(
                f"negatives.{language}", "text", f"negative-groups.{language}", first_column, count_column
            )
        table = f"texts.{language}"
        return CellPlaces(TextPlace(table, "question", row_column), TextPlace(table, "passage", row_column), negatives)

    def _with_positives(
        self, cells: dict[str, CellPlaces], columns: dict[str, NDArray[np.int64]]
    ) -> dict[str, CellPlaces]:
        """Write the positives of every language; examples that have a passage only by its id then have it there."""
        keys, _ = self.passage_ids.read()
        found: dict[str, CellPlaces] = {}
        start = 0
        for bit, (language, cell) in enumerate(cells.items()):
            of_language = np.uint64(1 << bit)
            numbers = self.examples_of_rows[language]
            has_passage = (self.passage_mask & of_language) != 0
            rows = np.flatnonzero(has_passage if numbers is None else has_passage[numbers])
            passage_rows = np.full(len(has_passage), -1, dtype=np.int64)
            passage_rows[rows if numbers is None else numbers[rows]] = rows
            keys_of_language = keys[start : start + len(rows)]
            start += len(keys_of_language)
            before = passage_rows.copy()
            place = self.positives.write(
                self.writer, language, passage_rows, (keys_of_language, rows[: len(keys_of_language)]), columns
            )
            passage = cell.passage
            if not np.array_equal(passage_rows, before):
                passage = replace(passage, row_column=f"passage-row.{language}")
                columns[f"passage-row.{language}"] = passage_rows
            self.passage_mask[passage_rows >= 0] |= of_language
            found[language] = replace(cell, passage=passage, positives=place)
        return found


def _place_of_row(source: RowSource, language: str, row: int) -> str:
    for batch in source.batches(language):
        if row < len(batch.ids):
            return batch.place(row)
        row -= len(batch.ids)
    raise LookupError(f"{language} has no row {row}: its source changed while it was read")


def _place_of_half_character(batch: RowBatch) -> str:
    for row in range(len(batch.ids)):
        texts = [batch.ids[row], batch.questions[row] or "", batch.passages[row] or ""]
        texts += batch.negatives[row] if batch.negatives is not None else []
        listed = batch.positives[row] if batch.positives is not None else []
        texts += [part or "" for positive in listed for part in (positive.text, positive.passage_id)]
        texts += [column[row] or "" for column in (batch.passage_ids, batch.joins) if column is not None]
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            return batch.place(row)
    raise LookupError("no text of the batch holds half a surrogate pair")
