"""The positives that rows list: gathered while the languages stream by, then resolved language by language and written.

What an example lists in the row of a language is a positive there; what it lists by the id of a passage, in whatever
row, is one in every language that has that passage. All positives of an example are of its passage group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

_PASSAGE = np.iinfo(np.int64).min


class _Entries(NamedTuple):
    """What consecutive rows of one language list, in their order: parallel arrays of texts, and of ids.

    Of texts: row, place as in `PositivePlace` (_PASSAGE of the row itself), score; `text_rows` and `text_keys` are of
    those that are not the passage. Of ids: row, score, key, and whether the row gives no text with it.
    """

    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    scores: NDArray[np.float64]
    text_rows: NDArray[np.int64]
    text_keys: Keys
    id_rows: NDArray[np.int64]
    id_scores: NDArray[np.float64]
    id_keys: Keys
    id_alone: NDArray[np.bool_]


class _Ids(NamedTuple):
    """All positives that have an id: parallel arrays; `text_in` names the language of the row's text, "" without."""

    keys: Keys
    examples: NDArray[np.int64]
    scores: NDArray[np.float64]
    text_in: NDArray[np.str_]


@dataclass(frozen=True)
class _Resolved:
    """Positives of some examples in a language: parallel arrays."""

    examples: NDArray[np.int64]
    places: NDArray[np.int64]
    scores: NDArray[np.float64]


class ListedPositives:
    """What the rows of a corpus list as positives beside their passages; empty of a corpus without any."""

    def __init__(self) -> None:
        self._entries: dict[str, list[_Entries]] = {}
        self._examples: dict[str, NDArray[np.int64]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, language: str, batch: RowBatch, first_row: int, texts: TableWriter) -> None:
        """Take in a batch that was read by `with_positives`; texts other than passages are written to `texts`.

        Args:
            first_row: rows of the language before those of the batch.
        """
        listed = [
            (row, number, positive)
            for row, of_row in enumerate(batch.positives or (), first_row)
            for number, positive in enumerate(of_row)
        ]
        given = [entry for entry in listed if entry[2].text is not None]
        ids = [(row, positive) for row, _, positive in listed if positive.passage_id is not None]
        others = [(row, positive.text) for row, number, positive in given if number]
        is_other = np.array([number > 0 for _, number, _ in given], dtype=bool)
        places = np.full(len(given), _PASSAGE)
        places[is_other] = ~(texts.num_rows + np.arange(len(others)))
        entries = _Entries(
            rows=np.array([row for row, _, _ in given], dtype=np.int64),
            places=places,
            scores=np.array([positive.score for _, _, positive in given], dtype=np.float64),
            text_rows=np.array([row for row, _ in others], dtype=np.int64),
            text_keys=keys_of(text for _, text in others),
            id_rows=np.array([row for row, _ in ids], dtype=np.int64),
            id_scores=np.array([positive.score for _, positive in ids], dtype=np.float64),
            id_keys=keys_of(positive.passage_id for _, positive in ids),
            id_alone=np.array([positive.text is None for _, positive in ids], dtype=bool),
        )
        self._entries.setdefault(language, []).append(entries)
        texts.append({"text": [text for _, text in others]})

    def place_rows(self, language: str, examples: NDArray[np.int64]) -> None:
        """Note the example of every row of a language that lists positives."""
        if language in self._entries:
            self._examples[language] = examples

    def _whole(self, language: str) -> _Entries:
        """All that the rows of a language list, by example instead of by row."""
        whole = _Entries(*(np.concatenate(parts) for parts in zip(*self._entries[language], strict=True)))
        of_rows = self._examples[language]
        by_example = {name: of_rows[getattr(whole, name)] for name in ("rows", "text_rows", "id_rows")}
        return whole._replace(**by_example)

    def texts(self) -> tuple[Keys, NDArray[np.int64]]:
        """Keys [n, 2] and examples [n] of the positives that are texts and no passage of their row."""
        parts = [self._whole(language) for language in self._entries]
        return np.concatenate([part.text_keys for part in parts]), np.concatenate([part.text_rows for part in parts])

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
        for language, parts in self._entries.items():
            for entries in parts:
                unknown = np.flatnonzero(entries.id_alone & (table.find(entries.id_keys) < 0))
                if unknown.size:
                    raise UserError(
                        f"{place_of(language, int(entries.id_rows[unknown[0]]))}: positives names a passage_id that no "
                        "passage of the corpus has; mend it, or give the positive's text"
                    )

    def _ids(self) -> _Ids:
        parts = [
            _Ids(whole.id_keys, whole.id_rows, whole.id_scores, np.where(whole.id_alone, "", language))
            for language, whole in ((language, self._whole(language)) for language in self._entries)
        ]
        return _Ids(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

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
        first = np.flatnonzero(np.diff(resolved.examples, prepend=-1))
        passage_rows[resolved.examples[first]] = resolved.places[first]
        counts = np.bincount(resolved.examples, minlength=len(passage_rows))
        told = np.flatnonzero((counts[resolved.examples] > 1) | (resolved.scores != 1.0))
        if not told.size:
            return None
        resolved = _Resolved(resolved.examples[told], resolved.places[told], resolved.scores[told])
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
        own, own_places, own_scores = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        if language in self._entries:
            whole = self._whole(language)
            own, own_scores = whole.rows, whole.scores
            own_places = np.where(whole.places == _PASSAGE, passage_rows[own], whole.places)
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
            np.concatenate([own_scores, scores, no_scores]),
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
    starts = np.flatnonzero((np.diff(examples, prepend=-1) != 0) | (np.diff(places, prepend=_PASSAGE) != 0))
    first_rank = np.minimum.reduceat(ranks[order], starts)
    examples, places, scores = examples[starts], places[starts], given.scores[order][starts]
    order = np.lexsort((first_rank, places != passage_rows[examples], examples))
    return _Resolved(examples[order], places[order], np.nan_to_num(scores[order], nan=1.0))


def _with_examples(keys: Keys, examples: NDArray[np.int64]) -> Keys:
    """Keys of pairs of a key and an example; half of a key tells it from any other."""
    pairs = keys.copy()
    pairs[:, 0] ^= examples.astype(np.uint64)
    return pairs
