"""Indexes of earlier versions: looked through once, then opened like any other.

Of those of version 0.1.0 only digests of the content are known, not sizes and checksums of files, nor which examples
ask the same; of some later ones not which fields of the rows were read. What was found out is kept beside the index,
which stays as it is.
"""

from __future__ import annotations

import json

from tqdm import tqdm

from hybatch.atomic import atomic_file
from hybatch.corpus.index.folder import ADOPTED, Index, count_corpus, describe_files, find_equal_questions, fingerprint
from hybatch.corpus.index.integrity import DamagedIndexError, remember_verified


def adopt(index: Index, *, progress: bool = False) -> None:
    """Fill `index.files` of an index of version 0.1.0, and keep what was found out beside it.

    Raises:
        DamagedIndexError: something in it is not what its digests say.
        OSError: the folder cannot be written.
    """
    _check_tables(index, progress=progress)
    _check_counts(index)
    examples = index.table("examples")
    everything = slice(None)
    others = find_equal_questions(
        index.directory,
        index.languages,
        [cell.question for cell in index.cells],
        examples.numbers("question_mask", everything),
        lambda column: examples.numbers(column, everything),
        index.table,
    )
    index.files = describe_files(index.directory, index.tables, others)
    _write_adopted(index)
    remember_verified(index.directory, index.files)


def adopt_fields(index: Index, fields: frozenset[str]) -> None:
    """Keep beside an index that `fields` are in none of its source's rows, or else in the index.

    Raises:
        OSError: the folder cannot be written.
    """
    index.fields |= fields
    _write_adopted(index)


def _write_adopted(index: Index) -> None:
    with atomic_file(index.directory / ADOPTED) as file:
        json.dump({"files": index.files, "fields": sorted(index.fields)}, file)


def _check_tables(index: Index, *, progress: bool) -> None:
    title = f"looking through {index.directory.name}"
    bar = tqdm(index.tables.items(), desc=title, unit="table", delay=2, disable=not progress, dynamic_ncols=True)
    for name, described in bar:
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
