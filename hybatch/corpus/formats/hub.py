"""Hugging Face data sets, from the hub or from disk, one per language or with a language column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hybatch.corpus.formats.entry import FormatEntry, below, from_rows, matching, read_below
from hybatch.corpus.formats.splits import Split, explain, is_saved, load_split
from hybatch.corpus.formats.text_files import kind_of
from hybatch.corpus.rows import ROWS_PER_BATCH, Columns, Place, RowBatch, check_languages, meant_by
from hybatch.errors import UserError

if TYPE_CHECKING:
    from hybatch.corpus.config import CorpusConfig


class Converter(NamedTuple):
    """What makes our rows of a data set's columns: those it cannot do without, and what to do where one is missing."""

    required: Sequence[str]
    mend: str
    convert: Callable[[Columns, str, Place], RowBatch]
    """(columns of a batch, language, place of a row) -> our rows."""


_PLACEHOLDER = "{language}"
_MAP = "map ours to theirs with `columns`"
HUB_ID = r"[\w.-]+/[\w.-]+"
# Without one of these under its right name a language would silently have none.
_LEFT_OUT_SILENTLY = frozenset(("question", "passage", "passage_id", "negatives"))


class DatasetSource:
    """Rows of Hugging Face data sets.

    The languages are those of the column that `columns.language` names, else those that fill `{language}` in the path
    or the subset, else the subfolders of the path that hold saved data sets, else the one in `languages`.

    Raises:
        UserError: the data set, a split, a column or a language is missing, or no rule above gives the languages.
    """

    work_unit = "rows"

    def __init__(self, config: CorpusConfig, path: str, converter: Converter | None = None) -> None:
        self._saved = [] if _PLACEHOLDER in path else _saved_below(path)
        if self._saved:
            path = f"{path}/{_PLACEHOLDER}"
        self.config = config
        self.place = self.path = path
        self.converter = converter or _column_converter(config)
        self.language_column = (config.columns or {}).get("language")
        self._loaded: dict[str, Split] = {}
        self.languages = check_languages(config.languages or self._find_languages(), path)
        self.total_work = None
        if config.languages and len(self.languages) > 1 and not self.language_column and not self._has_placeholder():
            raise UserError(
                f"{path}: nothing tells the languages {', '.join(self.languages)} apart; put {_PLACEHOLDER} into "
                "`path` or `subset`, or name the column with `columns: {language: ...}`"
            )

    def _has_placeholder(self) -> bool:
        return _PLACEHOLDER in self.path or _PLACEHOLDER in (self.config.subset or "")

    def _theirs(self, language: str) -> str:
        return (self.config.language_names or {}).get(language, language)

    def _find_languages(self) -> list[str]:
        if self.language_column:
            split = self._load("")
            _require(self.language_column, split.column_names, self.path, _MAP)
            theirs = split.unique(self.language_column)
            if not all(map(_is_language, theirs)):
                for columns, place in split.batches(ROWS_PER_BATCH):
                    _check_language_column(self.language_column, columns, place)
        elif _PLACEHOLDER in self.path:
            # As a Path writes it: without a "./" before it and doubled slashes, as what is found there.
            theirs = _matches(str(Path(self.path)), map(str, self._saved or matching(self.path)))
        elif _PLACEHOLDER in (self.config.subset or ""):
            theirs = _matches(str(self.config.subset), self._subsets())
        else:
            absent = "" if Path(self.path).exists() else "is no folder or file here; of a data set of the hub "
            raise UserError(
                f"{self.path}: {absent}nothing tells which language this is; name it in `languages`, put "
                f"{_PLACEHOLDER} into `path`, or name a column with `columns: {{language: ...}}`"
            )
        ours = {name: code for code, name in (self.config.language_names or {}).items()}
        return [ours.get(name, name) for name in theirs]

    def _subsets(self) -> list[str]:
        import datasets

        try:
            return list(datasets.get_dataset_config_names(self.path, revision=self.config.revision))
        except Exception as error:
            raise UserError(f"{self.path}: {explain(error)}") from error

    def _load(self, language: str) -> Split:
        """The data set of one language, or of all of them where a column tells."""
        key = language if self._has_placeholder() else ""
        if key not in self._loaded:
            path = self.path.replace(_PLACEHOLDER, self._theirs(language))
            subset = self.config.subset and self.config.subset.replace(_PLACEHOLDER, self._theirs(language))
            self._loaded = {key: load_split(path, subset, self.config.split, self.config.revision)}
        return self._loaded[key]

    def batches(self, language: str) -> Iterator[RowBatch]:
        """The rows of one language, in the data set's order."""
        split = self._load(language)
        where = self.path.replace(_PLACEHOLDER, self._theirs(language))
        if self.language_column:
            _require(self.language_column, split.column_names, where, _MAP)
        first = 0
        for columns, place in split.batches(ROWS_PER_BATCH):
            rows = list(range(len(next(iter(columns.values())))))
            columns["@row"] = [str(first + row) for row in rows]
            first += len(rows)
            self._complete(columns, split, place)
            if self.language_column:
                _check_language_column(self.language_column, columns, place)
                wanted = self._theirs(language)
                rows = [row for row in rows if columns[self.language_column][row] == wanted]
                columns = {name: [values[row] for row in rows] for name, values in columns.items()}

            def place_of(row: int, rows: list[int] = rows, place: Place = place) -> str:
                return place(rows[row])

            if rows:
                yield self.converter.convert(columns, language, place_of)

    def _complete(self, columns: Columns, split: Split, place: Place) -> None:
        """Add what is required and stands in no row of the batch, but in others."""
        for name in self.converter.required:
            if name not in columns:
                _require(name, split.column_names, place(0), self.converter.mend)
                columns[name] = [None] * len(columns["@row"])


def _column_converter(config: CorpusConfig) -> Converter:
    ours = ("id", "question", "passage", "passage_id", "negatives", "positives", "language")
    mapping = config.columns or {}
    for name in mapping:
        if name not in ours:
            raise UserError(f"`columns` maps {name!r}, which is none of {', '.join(ours)}")

    used = frozenset(mapping.get(name, name) for name in ours)

    def convert(columns: Columns, language: str, place: Place) -> RowBatch:
        _check_spelling(columns, used, place)
        named = {name: columns.get(mapping.get(name, name)) for name in ours}
        ids = [text_of_id(value) for value in named["id"] or ()]
        length = len(ids)
        return RowBatch(
            ids=ids,
            questions=named["question"] or [None] * length,
            passages=named["passage"] or [None] * length,
            passage_ids=_texts_of_ids(named["passage_id"]),
            negatives=_lists_of_negatives(named["negatives"]),
            positives=_lists_of_positives(named["positives"]),
            place=place,
            work=length,
        )

    required = dict.fromkeys((mapping.get("id", "id"), *mapping.values()))
    return Converter(list(required), _MAP, convert)


def _check_spelling(columns: Columns, used: frozenset[str], place: Place) -> None:
    for name in columns.keys() - used:
        meant = meant_by(name, _LEFT_OUT_SILENTLY)
        if meant in used and meant not in columns:
            raise UserError(
                f"{place(0)}: no column {meant!r}, but {name!r}: map it in `columns: {{{meant}: {name!r}}}`, or "
                "rename it"
            )


def text_of_id(value: Any) -> Any:
    """An id as a text: a text as it is written, a whole number in digits; anything else stays, to be refused."""
    return str(value) if type(value) is int else value


def _texts_of_ids(values: list[Any] | None) -> list[Any] | None:
    if values is None or all(value is None for value in values):
        return None
    return [text_of_id(value) for value in values]


def _lists_of_negatives(values: list[Any] | None) -> list[Any] | None:
    if values is None or not any(values):
        return None
    return [[value] if isinstance(value, str) else (value or []) for value in values]


def _lists_of_positives(values: list[Any] | None) -> list[Any] | None:
    if values is None or all(value is None for value in values):
        return None
    return [[value] if isinstance(value, str) else value for value in values]


def _require(column: str, columns: Sequence[str], place: str, mend: str) -> None:
    if column not in columns:
        raise UserError(f"{place}: no column {column!r}; there are {', '.join(columns)}: {mend}")


def _is_language(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _check_language_column(column: str, columns: Columns, place: Place) -> None:
    for row, value in enumerate(columns.get(column, ())):
        if not _is_language(value):
            problem = "is empty" if value is None or isinstance(value, str) else f"is {value!r}, not a text"
            raise UserError(f"{place(row)}: column {column!r} {problem}; name the row's language or take the row out")


def _matches(template: str, names: Any) -> list[str]:
    before, _, after = template.partition(_PLACEHOLDER)
    pattern = re.compile(
        re.escape(before) + r"([^/]+?)" + re.escape(after).replace(re.escape(_PLACEHOLDER), r"\1") + r"\Z"
    )
    return sorted({match.group(1) for name in names if (match := pattern.match(name))})


def _is_recognised(path: str) -> bool:
    local = Path(path)
    if _PLACEHOLDER in path or local.is_file():
        return True
    if local.is_dir():
        return (
            any(local.glob("*/state.json"))
            or any(local.glob("*/dataset_dict.json"))
            or (local / "state.json").is_file()
        )
    # A path whose first part is a folder here is rather misspelt than the id of a data set.
    return re.fullmatch(HUB_ID, path) is not None and not local.parent.is_dir()


def _saved_below(path: str) -> list[Path]:
    """The saved data sets that a folder which is none has in it, one a language."""
    return [] if is_saved(Path(path)) else [folder for folder in Path(path).glob("*/") if is_saved(folder)]


def reads(path: str) -> list[Path]:
    """As FormatEntry has it: of a folder of saved data sets these alone."""
    return read_below(path) if _PLACEHOLDER in path else _saved_below(path) or read_below(path)


def reading(path: str) -> int:
    """As FormatEntry has it: to version 0.1.0 a cell of CSV or TSV could be a number, a date or nothing."""
    source = below(path)
    files = [Path(path)] if _PLACEHOLDER in path or source.is_file() else source.rglob("*")
    return 2 if any(kind_of(file) in ("csv", "tsv") for file in files) else 1


DATASETS = FormatEntry(
    name="datasets",
    description="a data set of the Hugging Face hub, a `save_to_disk` folder, or data files; `columns` maps ours to "
    "theirs. One configuration or file a language through `{language}` in `subset` or `path`, or a `language` column; "
    '`id: "@row"` where the rows are parallel',
    recognises=_is_recognised,
    reads=reads,
    reading=reading,
    fields=frozenset(("passage_ids", "negatives", "positives")),
    build=from_rows(DatasetSource),
)
