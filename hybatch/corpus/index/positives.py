"""The positives that rows list: gathered while the languages stream by, then resolved language by language and written.

What an example lists in the row of a language is a positive there; what it lists by the id of a passage, in whatever
row, is one in every language that has that passage. All positives of an example are of its passage group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybatch.corpus.index.folder import IndexWriter, PositivePlace
from hybatch.corpus.index.groups import PassageGroups
from hybatch.corpus.index.keys import Keys, KeyTable, keys_of
from hybatch.corpus.index.table import TableWriter
from hybatch.corpus.positives import NO_SCORE
from hybatch.corpus.rows import RowBatch
from hybatch.errors import UserError

_NO_PLACE = np.iinfo(np.int64).min
_NO_KEYS: Keys = np.zeros((0, 2), dtype=np.uint64)


@dataclass
class _Entries:
    """Entries of one language, or parts of them, in the order of the rows: parallel lists, joined when they are read.

    `places` are as in `PositivePlace`, _NO_PLACE of what is the row's passage or stands for an id.
    """

    rows: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    is_passage: list[bool] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    text_rows: list[int] = field(default_factory=list)
    text_keys: list[Keys] = field(default_factory=list)
    id_rows: list[int] = field(default_factory=list)
    id_scores: list[float] = field(default_factory=list)
    id_needed: list[bool] = field(default_factory=list)
    id_keys: list[Keys] = field(default_factory=list)


class _Ids(NamedTuple):
    """All positives that have an id: parallel arrays; `text_in` names the language of the row's text, "" without."""

    keys: Keys
    examples: NDArray[np.int64]
    scores: NDArray[np.float64]
    text_in: NDArray[np.object_]


@dataclass(frozen=True)
class _Resolved:
    """Positives of some examples in a language: parallel arrays."""

    examples: NDArray[np.int64]
    places: NDArray[np.int64]
    scores: NDArray[np.float64]


class ListedPositives:
    """What the rows of a corpus list as positives beside their passages; empty of a corpus without any."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entries] = {}
        self._examples: dict[str, NDArray[np.int64]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, language: str, batch: RowBatch, first_row: int, texts: TableWriter) -> None:
        """Take in a batch that was read by `with_positives`; texts other than passages are written to `texts`.

        Args:
            first_row: rows of the language before those of the batch.
        """
        entries = self._entries.setdefault(language, _Entries())
        written: list[str] = []
        ids: list[str] = []
        for row, listed in enumerate(batch.positives or (), first_row):
            for number, positive in enumerate(listed):
                if positive.passage_id is not None:
                    ids.append(positive.passage_id)
                    entries.id_rows.append(row)
                    entries.id_scores.append(positive.score)
                    entries.id_needed.append(positive.text is None)
                if positive.text is None:
                    continue
                is_passage = number == 0
                entries.rows.append(row)
                entries.scores.append(positive.score)
                entries.is_passage.append(is_passage)
                entries.places.append(_NO_PLACE if is_passage else ~(texts.num_rows + len(written)))
                if not is_passage:
                    written.append(positive.text)
                    entries.text_rows.append(row)
        entries.text_keys.append(keys_of(written))
        entries.id_keys.append(keys_of(ids))
        texts.append({"text": written})

    def place_rows(self, language: str, examples: NDArray[np.int64]) -> None:
        """Note the example of every row of a language that lists positives."""
        if language in self._entries:
            self._examples[language] = examples

    def texts(self) -> tuple[Keys, NDArray[np.int64]]:
        """Keys [n, 2] and examples [n] of the positives that are texts and no passage of their row."""
        parts = [(entries.text_keys, self._of_rows(name, entries.text_rows)) for name, entries in self._entries.items()]
        return _joined([key for keys, _ in parts for key in keys]), _concatenated([examples for _, examples in parts])

    def join(
        self,
        groups: PassageGroups,
        passages: tuple[Keys, NDArray[np.int64]],
        passage_ids: tuple[Keys, NDArray[np.int64]],
        place_of: Callable[[str, int], str],
    ) -> None:
        """Make each example and its positives one group, those of others that are the same text or passage with them.

        Args:
            passages, passage_ids: keys and examples of every passage of the corpus.
            place_of: what messages call a row of a language.

        Raises:
            UserError: an id that stands for a positive is that of no passage.
        """
        self._check_ids(passage_ids[0], place_of)
        ids = self._ids()
        for (keys, examples), (listed, listing) in ((passages, self.texts()), (passage_ids, (ids.keys, ids.examples))):
            same = np.flatnonzero(KeyTable(listed).find(keys) >= 0)
            groups.join_equal_keys(np.concatenate([keys[same], listed]), np.concatenate([examples[same], listing]))

    def _check_ids(self, known: Keys, place_of: Callable[[str, int], str]) -> None:
        table = KeyTable(known)
        for language, entries in self._entries.items():
            needed = np.array(entries.id_needed, dtype=bool)
            unknown = np.flatnonzero(needed & (table.find(_joined(entries.id_keys)) < 0))
            if unknown.size:
                place = place_of(language, entries.id_rows[unknown[0]])
                raise UserError(
                    f"{place}: positives names a passage_id that no passage of the corpus has; mend it, or give the "
                    "positive's text"
                )

    def _ids(self) -> _Ids:
        parts = [
            _Ids(
                _joined(entries.id_keys),
                self._of_rows(language, entries.id_rows),
                np.array(entries.id_scores, dtype=np.float64),
                np.array([language if not needed else "" for needed in entries.id_needed], dtype=object),
            )
            for language, entries in self._entries.items()
        ]
        return _Ids(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _of_rows(self, language: str, rows: Sequence[int]) -> NDArray[np.int64]:
        return self._examples[language][np.array(rows, dtype=np.int64)]

    def write(
        self,
        writer: IndexWriter,
        language: str,
        passage_rows: NDArray[np.int64],
        ids_of_rows: tuple[Keys, NDArray[np.int64]],
        columns: dict[str, NDArray[np.int64]],
    ) -> PositivePlace | None:
        """Write the positives of a language, and give examples without a passage there the first that they have.

        Args:
            passage_rows: [N] the row of each example's passage in the language's texts, -1 without; written to.
            ids_of_rows: keys of the passage ids, and the rows, of the language's passages.
            columns: of the table of examples; `first_column` and `count_column` are added.

        Returns:
            where they stand; None where no example has another positive than its passage, and no score.
        """
        resolved = self._resolve(language, passage_rows, ids_of_rows)
        if not len(resolved.examples):
            return None
        first = np.flatnonzero(np.diff(resolved.examples, prepend=-1))
        passage_rows[resolved.examples[first]] = resolved.places[first]
        name = f"positive-places.{language}"
        writer.write_numbers(name, {"place": resolved.places, "score": resolved.scores.view(np.int64)})
        place = PositivePlace(
            f"positives.{language}" if language in self._entries else None,
            name,
            f"first-positive.{language}",
            f"positives.{language}",
        )
        counts = np.bincount(resolved.examples, minlength=len(passage_rows))
        columns[place.first_column] = np.cumsum(counts) - counts
        columns[place.count_column] = counts
        return place

    def _resolve(
        self, language: str, passage_rows: NDArray[np.int64], ids_of_rows: tuple[Keys, NDArray[np.int64]]
    ) -> _Resolved:
        """Every positive that an example has in a language once, the passage first, then in the order of the lists."""
        entries = self._entries.get(language, _Entries())
        own = self._of_rows(language, entries.rows) if entries.rows else np.zeros(0, dtype=np.int64)
        is_passage = np.array(entries.is_passage, dtype=bool)
        own_places = np.where(is_passage, passage_rows[own], np.array(entries.places, dtype=np.int64))
        ids = self._ids()
        found = KeyTable(ids_of_rows[0]).find(ids.keys)
        # What the example's own row has the text of is there already.
        pairs = _with_examples(ids.keys, ids.examples)
        found[KeyTable(pairs[ids.text_in == language]).find(pairs) >= 0] = -1
        there = found >= 0
        listing, scores, places = ids.examples[there], ids.scores[there], ids_of_rows[1][found[there]]
        # An example's own passage is a positive, whatever it lists.
        with_passage = np.unique(np.concatenate([own, listing]))
        with_passage = with_passage[passage_rows[with_passage] >= 0]
        no_scores = np.full(len(with_passage), NO_SCORE)
        everything = _Resolved(
            np.concatenate([own, listing, with_passage]),
            np.concatenate([own_places, places, passage_rows[with_passage]]),
            np.concatenate([np.array(entries.scores, dtype=np.float64), scores, no_scores]),
        )
        return _once_each(everything, passage_rows)


def _once_each(given: _Resolved, passage_rows: NDArray[np.int64]) -> _Resolved:
    """One entry of those with the same example and place: where it stands first, with the first score that one has."""
    if not len(given.examples):
        return given
    unscored = np.isnan(given.scores)
    ranks = np.arange(len(given.examples))
    order = np.lexsort((ranks, unscored, given.places, given.examples))
    examples, places = given.examples[order], given.places[order]
    starts = np.flatnonzero((np.diff(examples, prepend=-1) != 0) | (np.diff(places, prepend=_NO_PLACE) != 0))
    first_rank = np.minimum.reduceat(ranks[order], starts)
    examples, places, scores = examples[starts], places[starts], given.scores[order][starts]
    order = np.lexsort((first_rank, places != passage_rows[examples], examples))
    return _Resolved(examples[order], places[order], np.nan_to_num(scores[order], nan=1.0))


def _with_examples(keys: Keys, examples: NDArray[np.int64]) -> Keys:
    """Keys of pairs of a key and an example; half of a key tells it from any other."""
    pairs = keys.copy()
    pairs[:, 0] ^= examples.astype(np.uint64)
    return pairs


def _joined(keys: Sequence[Keys]) -> Keys:
    return np.concatenate(keys) if keys else _NO_KEYS


def _concatenated(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
