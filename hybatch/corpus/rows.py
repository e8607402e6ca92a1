"""What most readers give: for every language a stream of rows that each hold an id and their own texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from hybatch.errors import UserError
from hybatch.paths import check_fetched

MAX_LANGUAGES = 64
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
ROWS_PER_BATCH = 8192
LARGEST_SCORE = 1e9
_ALIKE = 0.9

Columns = dict[str, list[Any]]
"""Name -> values of consecutive rows, as a source has them."""
Place = Callable[[int], str]
"""Turns a row number of a batch into what an error message calls it."""


@dataclass(kw_only=True)
class RowBatch:
    """Some consecutive rows of one language, column by column.

    `questions` and `passages` hold None where the row lacks one. `passage_ids`, `negatives`, `positives` and `scores`,
    where the source has them, are parallel to `ids`. Positives are read by `hybatch.corpus.positives`; None stands for
    a row without. A row's scores are a teacher's, of its passage and of each of its negatives, None for one that is not
    known, or None for all. `joins` are further keys: examples with an equal one are of one passage group (all positives
    of a query). `place` turns a row number of the batch into what an error message calls it, and `work` is what the
    progress bar advances by, in the source's unit.
    """

    ids: list[Any]
    questions: list[Any]
    passages: list[Any]
    passage_ids: list[Any] | None = None
    negatives: list[Any] | None = None
    positives: list[Any] | None = None
    scores: list[Any] | None = None
    joins: list[str] | None = None
    place: Place
    work: int


OPTIONAL_FIELDS = frozenset(field.name for field in fields(RowBatch) if field.default is None)
"""Of a RowBatch, what a source need not have."""


class RowSource(Protocol):
    """A corpus to be indexed, streamed language by language; `batches` may be called again, from the beginning.

    `place` is what error messages call the whole of it.
    """

    place: str
    languages: tuple[str, ...]
    work_unit: str

    @property
    def total_work(self) -> int | None: ...

    def batches(self, language: str) -> Iterator[RowBatch]: ...


def check_fields(batch: RowBatch, known: frozenset[str], source: str) -> None:
    """See to it that a format declares all that it reads, by which an index is told from one made before it did.

    Raises:
        ValueError: a batch has an optional field that is not among those `known`.
    """
    given = {name for name in OPTIONAL_FIELDS if getattr(batch, name) is not None}
    if not given <= known:
        raise ValueError(f"{source}: rows have {', '.join(sorted(given - known))}, which `fields` of the format lacks")


@cache
def meant_by(name: str, fields: frozenset[str]) -> str | None:
    """The field that a name is another spelling of: "Questions " of "question"; None of a name of its own."""
    return next(iter(get_close_matches(name.strip().lower(), fields, n=1, cutoff=_ALIKE)), None)


def check_batch(batch: RowBatch) -> None:
    """Refuse rows without an id, without any text, or with a text that is empty or no text.

    Raises:
        UserError: names the first such row's place.
    """
    _check_texts(batch, "id", batch.ids, optional=False)
    _check_texts(batch, "question", batch.questions, optional=True)
    _check_texts(batch, "passage", batch.passages, optional=True)
    for row, (question, passage) in enumerate(zip(batch.questions, batch.passages, strict=True)):
        if question is None and passage is None:
            raise UserError(f"{batch.place(row)}: neither a question nor a passage; give one or take the row out")
    if batch.passage_ids is not None:
        for row, (passage, passage_id) in enumerate(zip(batch.passages, batch.passage_ids, strict=True)):
            if passage is not None and not (isinstance(passage_id, str) and passage_id):
                raise UserError(
                    f"{batch.place(row)}: passage_id is {passage_id!r}; give a text to every row of the corpus that "
                    "has a passage, or to none"
                )
    for row, negatives in enumerate(batch.negatives or ()):
        if not isinstance(negatives, list) or not all(isinstance(text, str) and text.strip() for text in negatives):
            raise UserError(f"{batch.place(row)}: negatives must be a list of texts, none of them empty")
    for row, scores in enumerate(batch.scores or ()):
        if scores is not None:
            _check_scores(scores, len(batch.negatives[row]) if batch.negatives else 0, batch.place(row))


def _check_scores(scores: Any, negatives: int, place: str) -> None:
    if not isinstance(scores, list) or not all(map(_is_score, scores)):
        raise UserError(f"{place}: scores must be a list of finite numbers, null for one that is not known")
    if len(scores) != 1 + negatives:
        raise UserError(
            f"{place}: {len(scores)} scores of a passage and {negatives} negatives; give one of the passage and, after "
            "it, one of each negative, in their order"
        )


def _is_score(value: Any) -> bool:
    # A number that float cannot hold is as bad as an infinity.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (is_number and abs(value) <= LARGEST_SCORE)


def _check_texts(batch: RowBatch, name: str, values: Sequence[Any], *, optional: bool) -> None:
    """Look at the column as a whole first: nearly every batch is good, and rows are many."""
    types = set(map(type, values))
    good_types = {str, type(None)} if optional else {str}
    present = [value for value in values if value is not None] if optional else values
    if types <= good_types and all(map(str.strip, present)):
        return
    for row, value in enumerate(values):
        if value is None and not optional:
            raise UserError(f"{batch.place(row)}: {name!r} is missing; every row needs one")
        if value is not None and not isinstance(value, str):
            raise UserError(f"{batch.place(row)}: {name!r} is {value!r}, not a text; put it in quotes")
        if value is not None and not value.strip():
            raise UserError(f"{batch.place(row)}: {name!r} is empty; give a text or leave the field out")


def check_languages(languages: Sequence[str], place: str) -> tuple[str, ...]:
    """The languages in alphabetical order.

    Raises:
        UserError: there are none, or more than the bits of a mask, or one has a name that no file can have.
    """
    if not languages:
        raise UserError(f"{place}: no language found")
    if len(languages) > MAX_LANGUAGES:
        raise UserError(
            f"{place}: {len(languages)} languages, at most {MAX_LANGUAGES} fit; name those to read in `languages`"
        )
    for language in languages:
        if not language.strip(".") or "/" in language or not language.isprintable():
            raise UserError(
                f"{place}: language {language!r} cannot be part of a file's name; give it another in `language_names`"
            )
    return tuple(sorted(languages))


def existing_folder(path: str) -> Path:
    """The folder at `path`.

    Raises:
        UserError: there is none.
    """
    if not Path(path).is_dir():
        raise UserError(f"{path}: no such folder")
    return Path(path)


def language_names(folder: Path, suffix: str) -> list[str]:
    """The languages that a folder has a file `<lang><suffix>` of, compressed ones too, in alphabetical order."""
    endings = (suffix, *(suffix + packed for packed in PACKED))
    names = (path.name for path in folder.glob(f"*{suffix}*") if path.name.endswith(endings))
    return sorted({name[: name.rindex(suffix)] for name in names if not name.startswith(".")})


def language_files(folder: Path, suffix: str, languages: Sequence[str] | None) -> dict[str, Path]:
    """language -> its file `<lang><suffix>` of `folder`, in alphabetical order; all there are, or those asked for.

    Raises:
        UserError: there is none, one asked for is missing, or one is no file to read: compressed, a folder, a link that
            points to nothing, a pointer of Git LFS.
    """
    found = language_names(folder, suffix)
    if not found:
        raise UserError(f"{folder}: no <lang>{suffix} file in this folder")
    files = {
        language: folder / (language + suffix) for language in sorted(set(found if languages is None else languages))
    }
    for language, path in files.items():
        if language not in found:
            raise UserError(f"{path}: no such file; `languages` asks for {language}, the folder has {', '.join(found)}")
        if not path.is_file():
            raise UserError(_unreadable(path))
        check_fetched(path)
    return files


def _unreadable(path: Path) -> str:
    for packed in PACKED:
        if not path.is_symlink() and path.with_name(path.name + packed).exists():
            return f"{path}{packed}: is compressed; unpack it, or name the languages to read without it"
    return (
        f"{path}: {'is a link that points to nothing' if path.is_symlink() else 'is no file'}; mend it or take it away"
    )
