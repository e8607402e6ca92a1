"""Indexes of format 1, which version 0.1.0 wrote: found right once, then opened like any other.

Of these only digests of the content are known, not sizes and checksums of files. A reading of the whole index compares
them, and finds whether its passage groups are the present ones: whether any question stands in two of them.
"""

from __future__ import annotations

import contextlib
import json

import numpy as np
from numpy.typing import NDArray

from hybatch.atomic import atomic_file
from hybatch.corpus.index.folder import ADOPTED, Index, count_corpus, describe_files, fingerprint
from hybatch.corpus.index.integrity import DamagedIndexError, remember_verified
from hybatch.corpus.index.keys import first_occurrence, keys_of

_TEXTS_AT_ONCE = 1 << 16


def adopt(index: Index) -> None:
    """Fill `index.files` and `index.joins_equal_questions` of an index of format 1, and remember them beside it.

    Raises:
        DamagedIndexError: something in it is not what its digests say.
    """
    _check_tables(index)
    _check_counts(index)
    index.files = describe_files(index.directory, index.tables)
    index.joins_equal_questions = not any(
        _has_a_question_in_two_groups(index, language) for language in range(len(index.languages))
    )
    content = {"files": index.files, "joins_equal_questions": index.joins_equal_questions}
    # A folder that is only read is looked through again next time.
    with contextlib.suppress(OSError), atomic_file(index.directory / ADOPTED) as file:
        json.dump(content, file)
    remember_verified(index.directory, index.files)


def _check_tables(index: Index) -> None:
    for name, described in index.tables.items():
        path = index.directory / f"{name}.arrow"
        try:
            digest = index.table(name).digest()
        except Exception as error:  # a damaged file can be misread in any way
            raise DamagedIndexError(path, f"cannot be read ({error})") from error
        if digest != described["digest"]:
            raise DamagedIndexError(path, "other content than was written (digest)")


def _check_counts(index: Index) -> None:
    """Compare what index.json says beside the digests with what they stand for."""
    examples = index.table("examples")
    everything = slice(None)
    counted = count_corpus(
        list(index.languages),
        examples.numbers("passage_group", everything),
        examples.numbers("question_mask", everything),
        examples.numbers("passage_mask", everything),
    )
    agree = (
        index.fingerprint == fingerprint(index.places, index.tables)
        and index.statistics == counted
        and list(index.places) == list(index.languages)
        and (index.num_examples, index.num_groups) == (counted.examples, counted.passage_groups)
        and index.has_hard_negatives == any(cell.negatives is not None for cell in index.cells)
    )
    if not agree:
        raise DamagedIndexError(index.directory / "index.json", "not what the tables hold")


def _has_a_question_in_two_groups(index: Index, language: int) -> bool:
    examples = index.table("examples")
    with_question = np.flatnonzero(examples.numbers("question_mask", slice(None)) & np.uint64(1 << language))
    if not len(with_question):
        return False
    groups = examples.numbers("passage_group", with_question)
    place = index.cells[language].question
    rows = with_question if place.row_column is None else examples.numbers(place.row_column, with_question)
    distinct, text_of_row = np.unique(rows, return_inverse=True)
    same_text = _same_texts(index, place.table, place.column, distinct)[text_of_row]
    lowest = np.full(len(distinct), index.num_groups, dtype=np.int64)
    np.minimum.at(lowest, same_text, groups)
    return bool((lowest[same_text] != groups).any())


def _same_texts(index: Index, table: str, column: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """For every row [n] the place in `rows` of the first with an equal text."""
    blocks = [rows[start : start + _TEXTS_AT_ONCE] for start in range(0, len(rows), _TEXTS_AT_ONCE)]
    return first_occurrence(np.concatenate([keys_of(index.table(table).texts(column, block)) for block in blocks]))
