"""One split of a Hugging Face data set: from the hub, a saved data set, a data file or a folder of them.

Text files are read by `text_files`, wherever they come from: `datasets` would take cells for numbers, dates and nulls.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from hybatch.corpus.formats.text_files import KINDS, TextFile, TextPart, TextSplit, kind_of, local_file
from hybatch.corpus.rows import Columns, Place
from hybatch.errors import UserError
from hybatch.paths import check_fetched

# What a data set's card may set of how its files are read, and nothing here does.
_UNREAD_IN_CSV = (
    "index_col", "usecols", "skipinitialspace", "skiprows", "nrows", "lineterminator", "quotechar", "escapechar",
    "comment", "dialect", "skipfooter", "doublequote", "encoding_errors", "on_bad_lines",
)  # fmt: skip
_UNREAD_IN_JSON = ("encoding", "encoding_errors")


class Split(Protocol):
    """Rows that can be read again and again, from the beginning."""

    @property
    def column_names(self) -> list[str]:
        """Every column that a row has."""

    def unique(self, column: str) -> list[Any]:
        """The distinct values of a column."""

    def batches(self, size: int) -> Iterator[tuple[Columns, Place]]:
        """(columns of up to `size` rows, where each row stands)."""


class LoadedSplit:
    """A split that `datasets` holds, in columns that have types."""

    def __init__(self, dataset: Any, path: str, split: str) -> None:
        # A saved data set remembers the format that it was shown in: arrays, tensors, some of its columns alone.
        self._dataset = dataset.with_format(None)
        self._path = path
        self._split = split

    @property
    def column_names(self) -> list[str]:
        return list(self._dataset.column_names)

    def unique(self, column: str) -> list[Any]:
        return list(self._dataset.unique(column))

    def batches(self, size: int) -> Iterator[tuple[Columns, Place]]:
        for number, columns in enumerate(self._dataset.iter(size)):

            def place(row: int, first: int = number * size) -> str:
                return f"{self._path}: row {first + row} of split {self._split}"

            yield columns, place


def load_split(path: str, subset: str | None, split: str, revision: str | None) -> Split:
    """A split of a saved data set (save_to_disk), of a data file, of a folder of data files, or of a hub data set.

    Raises:
        UserError: there is no such data set or split, or it cannot be loaded.
    """
    local = Path(path)
    if not local.exists() and path.startswith(("/", ".")):
        raise UserError(f"{path}: no such file or folder")
    if local.is_file() and (kind := kind_of(local)):
        return TextSplit([TextPart([local_file(local, kind)])])
    try:
        if is_saved(local):
            return _load_saved(path, split)
        if local.is_file():
            return _load_typed_file(path, split)
        return _load_built(path, subset, split, revision)
    except UserError:
        raise
    except Exception as error:  # the library raises many kinds, and each means that this data set cannot be had
        raise UserError(f"{path}: cannot be loaded as a Hugging Face data set: {explain(error)}") from error


def is_saved(folder: Path) -> bool:
    """Whether save_to_disk has written this folder."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def explain(error: BaseException) -> str:
    """The first line of an error, and of the one that it began with."""
    first = error
    while cause := first.__cause__ or first.__context__:
        first = cause
    return ": ".join(dict.fromkeys((str(one).splitlines() or [type(one).__name__])[0] for one in (error, first)))


def _load_saved(path: str, split: str) -> Split:
    import datasets

    loaded = datasets.load_from_disk(path)
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise UserError(f"{path}: no split {split!r}; there are {', '.join(loaded)}")
        loaded = loaded[split]
    return LoadedSplit(loaded, path, split)


def _load_typed_file(path: str, split: str) -> Split:
    import datasets

    if Path(path).suffix != ".parquet":
        raise UserError(f"{path}: unknown kind of data file; known are {', '.join(KINDS)}, .parquet")
    check_fetched(Path(path))
    return LoadedSplit(datasets.load_dataset("parquet", data_files=path, split="train"), path, split)


def _load_built(path: str, subset: str | None, split: str, revision: str | None) -> Split:
    import datasets
    from datasets.packaged_modules.csv.csv import Csv
    from datasets.packaged_modules.json.json import Json

    builder = datasets.load_dataset_builder(path, subset, revision=revision)
    if isinstance(builder, Csv | Json):
        return TextSplit(_parts(builder, split, path))
    builder.download_and_prepare()
    return LoadedSplit(builder.as_dataset(split=split), path, split)


def _parts(builder: Any, split: str, path: str) -> list[TextPart]:
    """What a split, or an expression as "train[:10%]+dev", has of the text files that a builder would read."""
    import datasets

    urls = {str(name): urls for name, urls in builder.config.data_files.items()}
    if split in urls:
        return [TextPart(_text_files(builder, urls[split], path))]
    files = {name: _text_files(builder, urls[name], path) for name in urls if name in split}
    if not files:
        raise UserError(f"{path}: no split {split!r}; there are {', '.join(urls)}")
    lengths = {name: sum(1 for file in listed for _ in file.rows()) for name, listed in files.items()}
    instructions = datasets.ReadInstruction.from_spec(split).to_absolute(lengths)
    return [TextPart(files[one.splitname], one.from_, one.to) for one in instructions]


def _text_files(builder: Any, urls: Sequence[str], path: str) -> list[TextFile]:
    import datasets

    options = _options_of_card(builder.config, path)
    config = datasets.DownloadConfig(token=builder.token, storage_options=builder.storage_options)
    manager = datasets.DownloadManager(dataset_name=builder.dataset_name, download_config=config)
    files = []
    for url in urls:
        place = Path(manager.download_and_extract(url))
        for file in map(Path, manager.iter_files(str(place))):
            name = url if file == place else f"{url}/{file.relative_to(place)}"
            files.append(TextFile(path=file, name=name, **options))
    return files


def _options_of_card(config: Any, path: str) -> dict[str, Any]:
    """What TextFile has to know of how a data set says that its files are read."""
    if not hasattr(config, "sep"):
        _refuse_options(config, _UNREAD_IN_JSON, path)
        return {"kind": "json", "delimiter": "", "field": config.field}
    _refuse_options(config, _UNREAD_IN_CSV, path)
    header_is_known = config.header == "infer" or (config.header == 0) == (config.names is None)
    if not header_is_known or config.quoting not in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        raise _refused(path, "header or quoting")
    kind = "tsv" if config.sep == "\t" or config.quoting == csv.QUOTE_NONE else "csv"
    return {"kind": kind, "delimiter": config.sep, "header": config.names, "encoding": config.encoding or "utf-8"}


def _refuse_options(config: Any, options: Sequence[str], path: str) -> None:
    ordinary = type(config)()
    for option in options:
        if getattr(config, option, None) != getattr(ordinary, option, None):
            raise _refused(path, option)


def _refused(path: str, option: str) -> UserError:
    return UserError(
        f"{path}: its card sets {option} for its text files, which hybatch does not follow; save the data set in "
        "another form (save_to_disk or parquet) and name that"
    )
