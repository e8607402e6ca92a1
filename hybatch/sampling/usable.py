"""Which examples of one corpus a selection of languages can use: found once, cached below the corpus, then mapped."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from hybatch.atomic import atomic_directory
from hybatch.corpus import ParallelCorpus
from hybatch.corpus.index.integrity import (
    DamagedIndexError,
    check_contents,
    check_sizes,
    checksum_of,
    describe_file,
    remember_verified,
)
from hybatch.errors import UserError
from hybatch.leftovers import recover
from hybatch.locks import file_lock
from hybatch.sampling.keyed import Int64Array, UInt64Array
from hybatch.sampling.kinds import Match, Text

_FORMAT = 1
_ROWS_AT_ONCE = 1 << 20
_GROUPS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Selection:
    """A rule that says which examples are usable, given the languages trained on.

    `same`: the example has query and passage in one of `languages`. `different`: it has a query in one of `languages`
    and a passage in another of them; `free`: or in the same. `question` and `passage`, where given, are the only
    languages of queries and of passages. `texts` says what the two sides are: question and passage, or twice the same
    for an example and its translation. Of `different`, the ordered pairs `never` do not count.
    """

    rule: Match
    languages: tuple[str, ...]
    question: str | None = None
    passage: str | None = None
    texts: tuple[Text, Text] = ("question", "passage")
    never: tuple[tuple[str, str], ...] = ()

    def masks(self, corpus: ParallelCorpus) -> tuple[int, int]:
        """The bits of the languages that queries, and that passages, may be in."""
        sides = (self.languages if code is None else (code,) for code in (self.question, self.passage))
        questions, passages = (language_mask(corpus, codes) for codes in sides)
        return questions, passages

    def others(self, corpus: ParallelCorpus) -> dict[int, int] | None:
        """The bit of each language of queries -> those of the passages that it may stand with; None without `never`."""
        if not self.never:
            return None
        return {
            language_mask(corpus, [x]): language_mask(corpus, [y for y in self.languages if (x, y) not in self.never])
            & ~language_mask(corpus, [x])
            for x in self.languages
        }

    def usable(
        self,
        question_mask: UInt64Array,
        passage_mask: UInt64Array,
        masks: tuple[int, int],
        others: dict[int, int] | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Whether each example is usable: [n] bool from its [n] masks; `masks` and `others` of the selection."""
        has = {"question": question_mask, "passage": passage_mask}
        questions, passages = (has[text] & np.uint64(mask) for text, mask in zip(self.texts, masks, strict=True))
        if self.rule == "same":
            return (questions & passages) != 0
        if others is not None:
            pairs = [((questions & np.uint64(x)) != 0) & ((passages & np.uint64(y)) != 0) for x, y in others.items()]
            return np.logical_or.reduce(pairs)
        if self.rule == "free":
            return (questions != 0) & (passages != 0)
        # With both masks set, the one case without a pair is that both are the same single language.
        return (questions != 0) & (passages != 0) & (np.bitwise_count(questions | passages) > 1)


def language_mask(corpus: ParallelCorpus, languages: Sequence[str]) -> int:
    """The bits that `languages` have in the corpus's masks."""
    return sum(1 << corpus.languages.index(language) for language in languages)


class UsableExamples:
    """The usable examples of a selection, numbered 0 .. len - 1 in the order of the corpus, opened from the cache.

    Attributes:
        num_corpus_examples: examples of the corpus, usable or not.
        group_sizes: [k] int64, the distinct numbers of usable examples that a passage group has, ascending.
        group_counts: [k] int64, how many passage groups have that number.

    Raises:
        DamagedIndexError: a file is missing or not what was written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            self._open(directory)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedIndexError(directory, f"cannot be read ({error})") from error

    def _open(self, directory: Path) -> None:
        content = json.loads((directory / "cell.json").read_text(encoding="utf-8"))
        # Version 0.1.0 wrote no checksums.
        if "checksum" in content:
            if content["checksum"] != checksum_of(content):
                raise DamagedIndexError(directory / "cell.json", "not as it was written (checksum)")
            check_sizes(directory, content["files"])
            check_contents(directory, content["files"], progress=False)
        self._num_usable: int = content["num_usable"]
        self.num_corpus_examples: int = content["num_examples"]
        sizes = np.array(content["group_sizes"], dtype=np.int64).reshape(-1, 2)
        self.group_sizes, self.group_counts = sizes[:, 0], sizes[:, 1]
        self._examples: npt.NDArray[np.unsignedinteger] | None = None
        if 0 < self._num_usable < self.num_corpus_examples:
            dtype = _row_dtype(self.num_corpus_examples)
            self._examples = np.memmap(directory / "examples.bin", dtype, mode="r", shape=(self._num_usable,))

    def __len__(self) -> int:
        return self._num_usable

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled memory map would carry its content along.
        return UsableExamples, (self._directory,)

    @property
    def num_groups(self) -> int:
        """Distinct passage groups of the usable examples."""
        return int(self.group_counts.sum())

    @property
    def collision_probability(self) -> float:
        """The chance that two different usable examples, drawn at random, are of one passage group."""
        if self._num_usable < 2:
            return 0.0
        pairs = sum(count * size * (size - 1) for size, count in zip(*self._sizes_and_counts(), strict=True))
        return pairs / (self._num_usable * (self._num_usable - 1))

    def _sizes_and_counts(self) -> tuple[list[int], list[int]]:
        return self.group_sizes.tolist(), self.group_counts.tolist()

    def rows(self, numbers: Int64Array) -> Int64Array:
        """The corpus's example indices of usable examples `numbers`, any order: int64 of the same shape."""
        if self._examples is None:
            return numbers
        return self._examples[numbers].astype(np.int64)


def open_usable(
    corpus: ParallelCorpus, selections: Sequence[Selection], *, progress: bool
) -> dict[Selection, UsableExamples]:
    """Open the usable examples of every selection, after finding and caching those that are not cached yet.

    Finding scans the corpus's masks once for all missing selections, and its passage groups once for each, in memory
    that does not grow with the rows. Opening reads no row, unless a file was changed or copied since it was last found
    right; what is damaged is found anew, with a line on stderr that says so.

    Raises:
        UserError: the corpus's index folder cannot be written.
    """
    folders = {selection: corpus.directory / _folder_name(corpus, selection) for selection in selections}
    opened = _open_intact(folders, say=False)
    if len(opened) < len(folders):
        try:
            # Where the file system knows no locks, several processes write the same, and the last one's stays.
            with file_lock(corpus.directory / "cells.lock", patience_seconds=math.inf) as lock:
                recover(corpus.directory, alone=lock.held)
                opened = _open_intact(folders, say=True)
                missing = {selection: folder for selection, folder in folders.items() if selection not in opened}
                _build(corpus, missing, progress=progress)
        except OSError as error:
            raise UserError(
                f"{corpus.directory}: cannot write which examples of {corpus.name} are usable ({error}); "
                "make room, or set HYBATCH_CACHE_DIR to a folder that can be written"
            ) from error
        opened = _open_intact(folders, say=True)
    return {selection: opened[selection] for selection in folders}


def _open_intact(folders: dict[Selection, Path], *, say: bool) -> dict[Selection, UsableExamples]:
    opened = {}
    for selection, folder in folders.items():
        if folder.exists():
            try:
                opened[selection] = UsableExamples(folder)
            except DamagedIndexError as error:
                if say:
                    print(f"{error}: which examples are usable is found anew", file=sys.stderr, flush=True)
    return opened


def _folder_name(corpus: ParallelCorpus, selection: Selection) -> str:
    # Without a language of their own for queries or passages, the name is that of earlier versions; likewise for
    # questions against passages.
    sides = [] if selection.question is selection.passage is None else [selection.question, selection.passage]
    texts = [] if selection.texts == ("question", "passage") else [list(selection.texts)]
    never = [{"never": selection.never}] if selection.never else []
    content = json.dumps([_FORMAT, corpus.fingerprint, selection.rule, selection.languages, *sides, *texts, *never])
    return f"cells-{selection.rule}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _row_dtype(num_examples: int) -> np.dtype[Any]:
    return np.dtype("<u4" if num_examples <= 1 << 32 else "<u8")


def _build(corpus: ParallelCorpus, folders: dict[Selection, Path], *, progress: bool) -> None:
    with ExitStack() as stack:
        found = [
            _Found(corpus, selection, stack.enter_context(atomic_directory(folder)))
            for selection, folder in folders.items()
        ]
        _scan(corpus, found, progress=progress)
        sizes_of_all: Counter[int] | None = None
        for one in found:
            if one.num_usable == corpus.num_examples:
                sizes_of_all = sizes_of_all or _group_sizes(corpus, one, progress=progress)
                one.write_description(corpus, sizes_of_all)
            else:
                one.write_description(corpus, _group_sizes(corpus, one, progress=progress))


class _Found:
    """The usable rows of a selection on their way into a file, which is only begun once a row is not usable."""

    def __init__(self, corpus: ParallelCorpus, selection: Selection, directory: Path) -> None:
        self.selection = selection
        self.masks = selection.masks(corpus)
        self.others = selection.others(corpus)
        self.directory = directory
        self.num_usable = 0
        self._file: IO[bytes] | None = None

    @property
    def path(self) -> Path:
        return self.directory / "examples.bin"

    def add(self, first_row: int, usable: npt.NDArray[np.bool_], dtype: np.dtype[Any]) -> None:
        rows = np.flatnonzero(usable)
        if self._file is None and len(rows) < len(usable):
            self._file = open(self.path, "wb")  # noqa: SIM115
            for start in range(0, first_row, _ROWS_AT_ONCE):
                self._file.write(np.arange(start, min(start + _ROWS_AT_ONCE, first_row)).astype(dtype).tobytes())
        if self._file is not None:
            self._file.write((rows + first_row).astype(dtype).tobytes())
        self.num_usable += len(rows)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def write_description(self, corpus: ParallelCorpus, sizes: Counter[int]) -> None:
        files = {path.name: describe_file(path) for path in (self.path,) if path.exists()}
        content: dict[str, Any] = {
            "format": _FORMAT,
            "rule": self.selection.rule,
            "languages": self.selection.languages,
            "num_examples": corpus.num_examples,
            "num_usable": self.num_usable,
            "group_sizes": sorted(sizes.items()),
            "files": files,
        }
        content["checksum"] = checksum_of(content)
        (self.directory / "cell.json").write_text(json.dumps(content), encoding="utf-8")
        remember_verified(self.directory, files)


def _scan(corpus: ParallelCorpus, found: list[_Found], *, progress: bool) -> None:
    dtype = _row_dtype(corpus.num_examples)
    with ExitStack() as stack, _bar(f"{corpus.name}: usable examples", corpus.num_examples, progress) as bar:
        for one in found:
            stack.callback(one.close)
        for start in range(0, corpus.num_examples, _ROWS_AT_ONCE):
            rows = slice(start, min(start + _ROWS_AT_ONCE, corpus.num_examples))
            question_mask, passage_mask = corpus.question_mask(rows), corpus.passage_mask(rows)
            for one in found:
                one.add(start, one.selection.usable(question_mask, passage_mask, one.masks, one.others), dtype)
            bar.update(rows.stop - rows.start)


def _group_sizes(corpus: ParallelCorpus, found: _Found, *, progress: bool) -> Counter[int]:
    """How many passage groups have 1, 2, ... usable examples; counts one range of groups after the other."""
    if corpus.num_groups == corpus.num_examples or not found.num_usable:
        return Counter({1: found.num_usable}) if found.num_usable else Counter()
    sizes: Counter[int] = Counter()
    starts = range(0, corpus.num_groups, _GROUPS_AT_ONCE)
    title = f"{corpus.name}: passage groups of {'+'.join(found.selection.languages)}"
    with _bar(title, len(starts) * found.num_usable, progress) as bar:
        for start in starts:
            counts = np.zeros(min(_GROUPS_AT_ONCE, corpus.num_groups - start), dtype=np.uint32)
            for groups in _groups_of_usable(corpus, found):
                within = groups - start
                if len(starts) > 1:
                    within = within[(within >= 0) & (within < len(counts))]
                np.add.at(counts, within, 1)
                bar.update(len(groups))
            distinct, repeated = np.unique(counts[counts > 0], return_counts=True)
            sizes.update(dict(zip(distinct.tolist(), repeated.tolist(), strict=True)))
    return sizes


def _groups_of_usable(corpus: ParallelCorpus, found: _Found) -> Iterator[Int64Array]:
    num_usable, dtype = found.num_usable, _row_dtype(corpus.num_examples)
    for start in range(0, num_usable, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, num_usable)
        if num_usable == corpus.num_examples:
            yield corpus.passage_groups(slice(start, stop))
        else:
            offset = start * dtype.itemsize
            rows = np.fromfile(found.path, dtype, count=stop - start, offset=offset).astype(np.int64)
            yield corpus.passage_groups(rows)


def _bar(title: str, total: int, progress: bool) -> Any:
    return tqdm(desc=title, total=total, unit="row", unit_scale=True, delay=2, disable=not progress, dynamic_ncols=True)
