"""A parallel corpus: example x language -> question, passage, hard negatives, read from a memory-mapped index."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hybatch.corpus.index.folder import CorpusStatistics, Index, NegativePlace, TextPlace
from hybatch.corpus.index.integrity import DamagedIndexError
from hybatch.corpus.index.scores import has_scores, read_scores
from hybatch.errors import UserError

Indices = NDArray[np.int64] | Sequence[int] | slice
_T = TypeVar("_T")
_EXAMPLES_AT_ONCE = 8192


class ParallelCorpus:
    """Examples that name the same content in every language that has them.

    Opening costs milliseconds and memory that does not grow with the rows; every method costs O(rows asked for).
    Example numbers run from 0 to num_examples - 1, in order of first appearance over the languages in alphabetical
    order. An object pickles as its folder's path.

    Attributes:
        name: what logs and tables call the corpus.
        languages: language codes in alphabetical order; language indices refer to it.
        fingerprint: hexadecimal digest of the content, the same on every machine and under every path.
        directory: the index folder; results derived from the corpus may be kept below it.
        num_examples, num_groups: examples, and passage groups among them.
        has_hard_negatives: whether any language has them.
        has_positives: whether any example has several positives, or a score.
        has_scores: whether any passage or hard negative has a teacher's score.
        statistics: counts worth printing before a run.

    Raises:
        UserError: the folder holds no index, or a damaged one.
    """

    def __init__(self, directory: Path, *, name: str) -> None:
        try:
            self._index = Index(directory)
        except DamagedIndexError as error:
            raise UserError(f"{error}: the index is damaged; remove {directory}, and it is made anew") from error
        self.name = name
        self.directory = directory
        self.languages: tuple[str, ...] = self._index.languages
        self.fingerprint: str = self._index.fingerprint
        self.num_examples: int = self._index.num_examples
        self.num_groups: int = self._index.num_groups
        self.has_hard_negatives: bool = self._index.has_hard_negatives
        self.has_positives: bool = any(cell.positives is not None for cell in self._index.cells)
        self.has_scores: bool = any(has_scores(self._index, language) for language in self.languages)
        self.statistics: CorpusStatistics = self._index.statistics

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.directory, self.name)

    def __repr__(self) -> str:
        return f"ParallelCorpus({self.name!r}, {self.num_examples} examples, {' '.join(self.languages)})"

    def ids(self, indices: Indices) -> list[str]:
        """Ids of the examples `indices` [n]."""
        return self._index.table("ids").texts("id", self._numbers(indices))

    def passage_groups(self, indices: Indices) -> NDArray[np.int64]:
        """Passage groups [n] int64, dense in [0, num_groups).

        Two examples are of one group if they carry the same `passage_id`; in a corpus without that column, if they
        have an identical passage text in any languages; and whenever a third example joins them so.
        """
        return self._examples("passage_group", indices)

    def answering_groups(self, indices: Indices, language_indices: Indices) -> list[list[int]]:
        """The passage groups, beside its own, that answer the question of indices[i] in languages[language_indices[i]].

        They are those of the other examples that ask the same in this language, word for word; [] of nearly all. It is
        no matter of the groups alone, which would grow together over questions and passages in turn: of a dictionary,
        whose words have several senses, a quarter would be one group.
        """

        def read(language: int, examples: NDArray[np.int64]) -> list[list[int]]:
            found: list[list[int]] = [[] for _ in examples]
            equal = self._index.equal_questions(self.languages[language])
            asked = equal.asking_the_same(examples) if equal is not None else []
            if asked:
                own = self.passage_groups(examples).tolist()
                groups = self.passage_groups(np.concatenate([asking for _, asking in asked]))
                ends = np.cumsum([len(asking) for _, asking in asked])
                for (place, _), answering in zip(asked, np.split(groups, ends[:-1]), strict=True):
                    found[place] = sorted({*answering.tolist()} - {own[place]})
            return found

        return self._per_language(read, indices, language_indices)

    def question_mask(self, indices: Indices) -> NDArray[np.uint64]:
        """[n] uint64; bit k says that the example has a question in languages[k]."""
        return self._examples("question_mask", indices)

    def passage_mask(self, indices: Indices) -> NDArray[np.uint64]:
        """[n] uint64; bit k says that the example has a passage in languages[k]."""
        return self._examples("passage_mask", indices)

    def questions(self, indices: Indices, language_indices: Indices) -> list[str]:
        """The question of example indices[i] in languages[language_indices[i]], for every i.

        Raises:
            ValueError: an example has no question in that language; the masks say which have.
        """
        return self._texts("question", indices, language_indices)

    def passages(self, indices: Indices, language_indices: Indices) -> list[str]:
        """The passage of example indices[i] in languages[language_indices[i]], for every i.

        Raises:
            ValueError: an example has no passage in that language; the masks say which have.
        """
        return self._texts("passage", indices, language_indices)

    def positive_counts(self, indices: Indices, language_indices: Indices) -> NDArray[np.int64]:
        """[n]: how many positives each example has in a language; 1 where its passage is the only one."""

        def read(language: int, examples: NDArray[np.int64]) -> list[int]:
            return [max(1, count) for count in self._range_of_positives(language, examples)[1].tolist()]

        return np.array(self._per_language(read, indices, language_indices), dtype=np.int64)

    def positives(self, indices: Indices, language_indices: Indices) -> list[list[tuple[str, float]]]:
        """The texts that answer example indices[i] in languages[language_indices[i]], each with its score.

        The passage is the first of them. A score is greater than 0, and 1 where none is given.

        Raises:
            ValueError: an example has no passage in that language; the masks say which have.
        """

        def read(language: int, examples: NDArray[np.int64]) -> list[list[tuple[str, float]]]:
            first, count = self._range_of_positives(language, examples)
            alone = np.flatnonzero(count == 0)
            passages = self.passages(examples[alone], np.full(len(alone), language))
            found: list[list[tuple[str, float]]] = [[] for _ in examples]
            for place, passage in zip(alone.tolist(), passages, strict=True):
                found[place] = [(passage, 1.0)]
            several = np.flatnonzero(count)
            texts = self._listed_positives(language, _rows_of_ranges(first[several], count[several]))
            ends = np.cumsum(count[several])
            for place, end, length in zip(several.tolist(), ends.tolist(), count[several].tolist(), strict=True):
                found[place] = texts[end - length : end]
            return found

        return self._per_language(read, indices, language_indices)

    def _range_of_positives(
        self, language: int, examples: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and count [n] of what the examples list in a language."""
        place = self._index.cells[language].positives
        if place is None:
            return np.zeros_like(examples), np.zeros_like(examples)
        return self._examples(place.first_column, examples), self._examples(place.count_column, examples)

    def _listed_positives(self, language: int, rows: NDArray[np.int64]) -> list[tuple[str, float]]:
        if not len(rows):
            return []
        cell = self._index.cells[language]
        assert cell.positives is not None
        table = self._index.table(cell.positives.place_table)
        places, scores = table.numbers("place", rows), table.numbers("score", rows).view(np.float64)
        texts = [""] * len(rows)
        for chosen, name, column, its_rows in (
            (places >= 0, cell.passage.table, cell.passage.column, places),
            (places < 0, cell.positives.text_table, "text", ~places),
        ):
            if chosen.any():
                assert name is not None
                read = self._index.table(name).texts(column, its_rows[chosen])
                for place, text in zip(np.flatnonzero(chosen).tolist(), read, strict=True):
                    texts[place] = text
        return list(zip(texts, scores.tolist(), strict=True))

    def hard_negatives(self, indices: Indices, language_indices: Indices) -> list[list[str]]:
        """The hard negatives of example indices[i] in languages[language_indices[i]]; [] where it has none."""

        def read(place: NegativePlace, rows: NDArray[np.int64]) -> list[str]:
            return self._index.table(place.table).texts(place.column, rows)

        return self._negatives(read, indices, language_indices)

    def hard_negative_groups(self, indices: Indices, language_indices: Indices) -> list[list[int]]:
        """Parallel to `hard_negatives`: the passage group whose passage the text is, -1 where it is no example's."""

        def read(place: NegativePlace, rows: NDArray[np.int64]) -> list[int]:
            return self._index.table(place.group_table).numbers("group", rows).tolist()

        return self._negatives(read, indices, language_indices)

    def scores(self, indices: Indices, language_indices: Indices) -> list[list[float]]:
        """A teacher's scores of the passage of indices[i] and of each of its hard negatives, in their order; NaN where
        none is known. They are of the passages with the question of the same language."""

        def read_negatives(place: NegativePlace, rows: NDArray[np.int64]) -> list[float]:
            language = place.table.removeprefix("negatives.")
            if not has_scores(self._index, language):
                return [math.nan] * len(rows)
            return read_scores(self._index, "negatives", language, rows).tolist()

        def read_passages(language: int, examples: NDArray[np.int64]) -> list[float]:
            # Of the row itself, wherever the text of its passage stands.
            code, row_column = self.languages[language], self._index.cells[language].question.row_column
            if not has_scores(self._index, code):
                return [math.nan] * len(examples)
            rows = examples if row_column is None else self._examples(row_column, examples)
            return read_scores(self._index, "passages", code, rows).tolist()

        own = self._per_language(read_passages, indices, language_indices)
        others = self._negatives(read_negatives, indices, language_indices)
        return [[score, *of_negatives] for score, of_negatives in zip(own, others, strict=True)]

    def missing_scores(self) -> tuple[int, int]:
        """How many passages and hard negatives have no score, of how many; of the rows that have hard negatives."""
        missing = total = 0
        every = np.arange(self.num_examples)
        for place, cell in enumerate(self._index.cells):
            found = cell.negatives
            if found is None:
                continue
            counts = self._examples(found.count_column, every)
            examples = np.flatnonzero(counts)
            total += len(examples) + int(counts.sum())
            for start in range(0, len(examples), _EXAMPLES_AT_ONCE):
                block = examples[start : start + _EXAMPLES_AT_ONCE]
                rows = self.scores(block, np.full(len(block), place))
                missing += sum(math.isnan(score) for row in rows for score in row)
        return missing, total

    def _examples(self, column: str, indices: Indices) -> NDArray[Any]:
        rows = indices if isinstance(indices, slice) else np.asarray(indices, dtype=np.int64)
        return self._index.table("examples").numbers(column, rows)

    def _numbers(self, indices: Indices) -> NDArray[np.int64]:
        if isinstance(indices, slice):
            return np.arange(*indices.indices(self.num_examples), dtype=np.int64)
        return np.asarray(indices, dtype=np.int64)

    def _texts(self, role: str, indices: Indices, language_indices: Indices) -> list[str]:
        def read(language: int, examples: NDArray[np.int64]) -> list[str]:
            place: TextPlace = getattr(self._index.cells[language], role)
            table = self._index.table(place.table)
            rows = examples if place.row_column is None else self._examples(place.row_column, examples)
            present = (rows >= 0) & (rows < table.num_rows)
            texts = table.texts(place.column, rows) if present.all() else [""]
            if "" in texts:
                code = self.languages[language]
                raise ValueError(f"corpus {self.name}: an example of {examples.tolist()[:8]} has no {role} in {code}")
            return texts

        return self._per_language(read, indices, language_indices)

    def _negatives(
        self,
        read: Callable[[NegativePlace, NDArray[np.int64]], list[_T]],
        indices: Indices,
        language_indices: Indices,
    ) -> list[list[_T]]:
        def read_language(language: int, examples: NDArray[np.int64]) -> list[list[_T]]:
            place = self._index.cells[language].negatives
            if place is None:
                return [[] for _ in examples]
            first = self._examples(place.first_column, examples)
            count = self._examples(place.count_column, examples)
            ends = np.cumsum(count)
            flat = read(place, _rows_of_ranges(first, count))
            return [flat[end - length : end] for end, length in zip(ends.tolist(), count.tolist(), strict=True)]

        return self._per_language(read_language, indices, language_indices)

    def _per_language(
        self, read: Callable[[int, NDArray[np.int64]], list[_T]], indices: Indices, language_indices: Indices
    ) -> list[_T]:
        """Call `read` once a language present and put its results in the order of `indices`."""
        examples = self._numbers(indices)
        languages = np.asarray(language_indices, dtype=np.int64)
        if examples.shape != languages.shape:
            raise ValueError(f"{len(examples)} examples but {len(languages)} language indices")
        if examples.size == 0:
            return []
        if examples.min() < 0 or examples.max() >= self.num_examples:
            raise IndexError(f"examples {examples.min()} to {examples.max()} asked of {self.num_examples}")
        if languages.min() < 0 or languages.max() >= len(self.languages):
            raise IndexError(f"language indices {languages.min()} to {languages.max()} asked of {len(self.languages)}")
        counts = np.bincount(languages, minlength=len(self.languages))
        present = np.flatnonzero(counts).tolist()
        if len(present) == 1:
            return read(present[0], examples)
        order = np.argsort(languages, kind="stable")
        in_order: list[_T] = []
        for group, language in zip(np.split(examples[order], np.cumsum(counts[present])[:-1]), present, strict=True):
            in_order.extend(read(language, group))
        result: list[_T] = [in_order[0]] * len(in_order)
        for position, item in zip(order.tolist(), in_order, strict=True):
            result[position] = item
        return result


def _rows_of_ranges(first: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """first[0] .. first[0] + count[0] - 1, and so on."""
    return np.repeat(first - (np.cumsum(count) - count), count) + np.arange(count.sum())


def _reopen(directory: Path, name: str) -> ParallelCorpus:
    return ParallelCorpus(directory, name=name)
