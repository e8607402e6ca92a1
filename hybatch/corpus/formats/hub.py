"""Hugging Face data sets, from the hub or from disk, one per language or with a language column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybatch.corpus.formats.entry import FormatEntry, from_rows
from hybatch.corpus.rows import ROWS_PER_BATCH, RowBatch, check_languages
from hybatch.errors import UserError

if TYPE_CHECKING:
    from hybatch.corpus.config import CorpusConfig

Columns = dict[str, list[Any]]
Converter = Callable[[Columns, str, Callable[[int], str]], RowBatch]
"""(columns of a batch, language, place of a row) -> our rows."""

_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
_PLACEHOLDER = "{language}"
HUB_ID = r"[\w.-]+/[\w.-]+"


class DatasetSource:
    """Rows of Hugging Face data sets.

    The languages are those of the column that `columns.language` names, else those that fill `{language}` in the path
    or the subset, else the subfolders of the path that hold saved data sets, else the one in `languages`.

    Raises:
        UserError: the data set, a split, a column or a language is missing, or no rule above gives the languages.
    """

    work_unit = "rows"

    def __init__(self, config: CorpusConfig, path: str, converter: Converter | None = None) -> None:
        holds_saved = not _is_saved(Path(path)) and any(map(_is_saved, Path(path).glob("*/")))
        if _PLACEHOLDER not in path and holds_saved:
            path = f"{path}/{_PLACEHOLDER}"
        self.config = config
        self.place = self.path = path
        self.converter = converter or _column_converter(config)
        self.language_column = (config.columns or {}).get("language")
        self._loaded: dict[str, Any] = {}
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
            dataset = self._load("")
            _require(self.language_column, dataset.column_names, self.path)
            theirs = dataset.unique(self.language_column)
        elif _PLACEHOLDER in self.path:
            theirs = _matches(self.path, map(str, _glob(self.path.replace(_PLACEHOLDER, "*"))))
        elif _PLACEHOLDER in (self.config.subset or ""):
            theirs = _matches(str(self.config.subset), self._subsets())
        else:
            absent = "" if Path(self.path).exists() else "is no folder or file here; of a data set of the hub "
            raise UserError(f"{self.path}: {absent}nothing tells which language this is; name it in `languages`")
        ours = {name: code for code, name in (self.config.language_names or {}).items()}
        return [ours.get(name, name) for name in theirs]

    def _subsets(self) -> list[str]:
        import datasets

        try:
            return list(datasets.get_dataset_config_names(self.path, revision=self.config.revision))
        except Exception as error:
            raise UserError(f"{self.path}: {_first_line(error)}") from error

    def _load(self, language: str) -> Any:
        """The data set of one language, or of all of them where a column tells."""
        key = language if self._has_placeholder() else ""
        if key not in self._loaded:
            path = self.path.replace(_PLACEHOLDER, self._theirs(language))
            subset = self.config.subset and self.config.subset.replace(_PLACEHOLDER, self._theirs(language))
            self._loaded = {key: load_split(path, subset, self.config.split, self.config.revision)}
        return self._loaded[key]

    def batches(self, language: str) -> Iterator[RowBatch]:
        """The rows of one language, in the data set's order."""
        dataset = self._load(language)
        where = self.path.replace(_PLACEHOLDER, self._theirs(language))
        if self.language_column:
            _require(self.language_column, dataset.column_names, where)
        for batch_number, columns in enumerate(dataset.iter(ROWS_PER_BATCH)):
            first = batch_number * ROWS_PER_BATCH
            rows = list(range(len(next(iter(columns.values())))))
            if self.language_column:
                wanted = self._theirs(language)
                rows = [row for row in rows if columns[self.language_column][row] == wanted]
                columns = {name: [values[row] for row in rows] for name, values in columns.items()}

            def place(row: int, rows: list[int] = rows, first: int = first) -> str:
                return f"{where}: row {first + rows[row]} of split {self.config.split}"

            columns["@row"] = [str(first + row) for row in rows]
            if rows:
                yield self.converter(columns, language, place)


def load_split(path: str, subset: str | None, split: str, revision: str | None) -> Any:
    """A split of a saved data set (save_to_disk), of a data file, of a folder of data files, or of a hub data set.

    Raises:
        UserError: there is no such data set or split, or it cannot be loaded.
    """
    import datasets

    local = Path(path)
    if not local.exists() and path.startswith(("/", ".")):
        raise UserError(f"{path}: no such file or folder")
    suffix = Path(local.stem).suffix if local.suffix == ".gz" else local.suffix
    try:
        if _is_saved(local):
            loaded = datasets.load_from_disk(path)
            if not isinstance(loaded, datasets.DatasetDict):
                return loaded
            if split not in loaded:
                raise UserError(f"{path}: no split {split!r}; there are {', '.join(loaded)}")
            return loaded[split]
        if local.is_file():
            if suffix not in _BUILDERS:
                raise UserError(f"{path}: unknown kind of data file; known are {', '.join(_BUILDERS)}")
            options = {"sep": "\t"} if suffix == ".tsv" else {}
            return datasets.load_dataset(_BUILDERS[suffix], data_files=path, split="train", **options)
        return datasets.load_dataset(path, subset, split=split, revision=revision)
    except UserError:
        raise
    except Exception as error:  # the library raises many kinds, and each means that this data set cannot be had
        raise UserError(f"{path}: cannot be loaded as a Hugging Face data set: {_first_line(error)}") from error


def _column_converter(config: CorpusConfig) -> Converter:
    ours = ("id", "question", "passage", "passage_id", "negatives", "language")
    mapping = config.columns or {}
    for name in mapping:
        if name not in ours:
            raise UserError(f"`columns` maps {name!r}, which is none of {', '.join(ours)}")

    def convert(columns: Columns, language: str, place: Callable[[int], str]) -> RowBatch:
        for theirs in mapping.values():
            _require(theirs, columns, place(0))
        named = {name: columns.get(mapping.get(name, name)) for name in ours}
        ids = named["id"]
        if ids is None:
            _require("id", columns, place(0))
        length = len(ids or ())
        return RowBatch(
            ids=[str(value) if type(value) is int else value for value in ids or ()],
            questions=named["question"] or [None] * length,
            passages=named["passage"] or [None] * length,
            passage_ids=_texts_of_ids(named["passage_id"]),
            negatives=_lists_of_negatives(named["negatives"]),
            place=place,
            work=length,
        )

    return convert


def _texts_of_ids(values: list[Any] | None) -> list[Any] | None:
    if values is None or all(value is None for value in values):
        return None
    return [str(value) if type(value) is int else value for value in values]


def _lists_of_negatives(values: list[Any] | None) -> list[Any] | None:
    if values is None or not any(values):
        return None
    return [[value] if isinstance(value, str) else (value or []) for value in values]


def _require(column: str, columns: Mapping[str, Any] | list[str], place: str) -> None:
    if column not in columns:
        there = ", ".join(name for name in columns if name != "@row")
        raise UserError(f"{place}: no column {column!r}; there are {there}: map ours to theirs with `columns`")


def _is_saved(folder: Path) -> bool:
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def _glob(pattern: str) -> list[Path]:
    path = Path(pattern)
    return sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor) if path.anchor else path)))


def _matches(template: str, names: Any) -> list[str]:
    before, _, after = template.partition(_PLACEHOLDER)
    pattern = re.compile(
        re.escape(before) + r"([^/]+?)" + re.escape(after).replace(re.escape(_PLACEHOLDER), r"\1") + r"\Z"
    )
    return sorted({match.group(1) for name in names if (match := pattern.match(name))})


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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


DATASETS = FormatEntry(
    name="datasets",
    description="a data set of the Hugging Face hub, a `save_to_disk` folder, or data files; `columns` maps ours to "
    "theirs. One configuration or file a language through `{language}` in `subset` or `path`, or a `language` column; "
    '`id: "@row"` where the rows are parallel',
    recognises=_is_recognised,
    build=from_rows(DatasetSource),
)
