"""The layout of Mr. TyDi and MIRACL: query_id, query, positive_passages, negative_passages; a data set a language."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybatch.corpus.formats.entry import FormatEntry, from_rows
from hybatch.corpus.formats.hub import Converter, DatasetSource, reading, reads, text_of_id
from hybatch.corpus.rows import Columns, Place, RowBatch
from hybatch.errors import UserError

if TYPE_CHECKING:
    from hybatch.corpus.config import CorpusConfig


def mrtydi_source(config: CorpusConfig, path: str) -> DatasetSource:
    """Rows of `path`: one example per query and positive passage, all of one query in one passage group.

    With `positives: together` there is one example per query, with all of its positive passages.

    A passage is its title, if any, a space, and its text. Passages are told apart by `docid`, which each language
    numbers for itself unless `parallel_ids` says otherwise.

    Args:
        config: `subset` gives the hub configuration, by default the language's name.
        path: hub id, or a folder with <lang>.jsonl, <lang>.jsonl.gz or saved data sets, or a path with {language}.

    Raises:
        UserError: as DatasetSource, and where a row lacks its query, its positive passages or their texts.
    """
    if "{language}" not in path and Path(path).exists():
        path = _with_placeholder(path)
    elif "{language}" not in path and config.subset is None:
        config = replace(config, subset="{language}")
    together = config.positives == "together"
    return DatasetSource(config, path, _converter(parallel_ids=config.parallel_ids, together=together))


def _with_placeholder(path: str) -> str:
    """Of a folder with a file a language the path of these files; any other path as it is."""
    suffixes = [suffix for suffix in (".jsonl", ".jsonl.gz", ".parquet") if any(Path(path).glob(f"*{suffix}"))]
    return f"{path}/{{language}}{suffixes[0]}" if suffixes else path


def _converter(*, parallel_ids: bool, together: bool) -> Converter:
    def convert(columns: Columns, language: str, place: Place) -> RowBatch:
        scope = "" if parallel_ids else f"{language}:"
        batch = RowBatch(ids=[], questions=[], passages=[], passage_ids=[], negatives=[], joins=[], place=place, work=0)
        batch.positives = []
        origins: list[int] = []
        negative_column = columns.get("negative_passages") or [None] * len(columns["query"])
        rows = zip(columns["query_id"], columns["query"], columns["positive_passages"], negative_column, strict=True)
        for row, (query_id, query, positives, negatives) in enumerate(rows):
            if query_id is None or not positives:
                raise UserError(f"{place(row)}: a query needs a query_id and at least one of positive_passages")
            query_id = _id("query_id", query_id, place(row))
            add = _add_query if together else _add_positives
            add(batch, f"{scope}{query_id}", query, scope, positives, negatives or [], place(row))
            origins.extend([row] * (len(batch.ids) - len(origins)))
        batch.place = lambda example: place(origins[example])
        batch.work = len(columns["query"])
        if not any(batch.negatives or ()):
            batch.negatives = None
        if not any(batch.positives):
            batch.positives = None
        return batch

    return Converter(("query_id", "query", "positive_passages"), "is this Mr. TyDi's layout?", convert)


def _add_query(
    batch: RowBatch, query_id: str, query: Any, scope: str, positives: Any, negatives: Any, place: str
) -> None:
    """One example with all positives; a text that is listed twice counts once, and is no negative."""
    assert batch.passage_ids is not None
    assert batch.negatives is not None
    assert batch.joins is not None
    assert batch.positives is not None
    of_text: dict[str, str | None] = {}
    for passage in positives:
        of_text.setdefault(_passage_text(passage, place), _docid(passage, scope, place))
    listed = [{"text": text, "passage_id": docid} for text, docid in of_text.items()]
    texts = [_passage_text(negative, place) for negative in negatives]
    batch.ids.append(query_id)
    batch.questions.append(query)
    batch.passages.append(listed[0]["text"])
    batch.passage_ids.append(listed[0]["passage_id"])
    batch.negatives.append([text for text in texts if text not in of_text])
    batch.joins.append(query_id)
    batch.positives.append(listed if len(listed) > 1 else None)


def _add_positives(
    batch: RowBatch, query_id: str, query: Any, scope: str, positives: Any, negatives: Any, place: str
) -> None:
    """An example of every positive."""
    assert batch.passage_ids is not None
    assert batch.negatives is not None
    assert batch.joins is not None
    for passage in positives:
        text = _passage_text(passage, place)
        docid = _docid(passage, scope="", place=place)
        batch.ids.append(f"{query_id}#{docid}")
        batch.questions.append(query)
        batch.passages.append(text)
        batch.passage_ids.append(None if docid is None else f"{scope}{docid}")
        batch.negatives.append([_passage_text(negative, place) for negative in negatives])
        batch.joins.append(query_id)


def _docid(passage: Any, scope: str, place: str) -> str | None:
    docid = passage.get("docid")
    return None if docid is None or docid == "" else f"{scope}{_id('docid', docid, place)}"


def _id(name: str, value: Any, place: str) -> str:
    text = text_of_id(value)
    if not isinstance(text, str):
        raise UserError(f"{place}: {name!r} is {value!r}, not a text; put it in quotes")
    return text


def _passage_text(passage: Any, place: str) -> str:
    """Empty where the text is: sets without texts (their test splits) must not pass for sets of titles."""
    title, text = (passage.get(name) or "" for name in ("title", "text")) if isinstance(passage, dict) else (None, None)
    if not (isinstance(title, str) and isinstance(text, str)):
        raise UserError(f"{place}: a passage must be an object with docid, title and text, the last two texts")
    return f"{title} {text}".strip() if text.strip() else ""


MRTYDI = FormatEntry(
    name="mrtydi",
    description="Mr. TyDi's and MIRACL's layout: `query_id`, `query`, `positive_passages`, `negative_passages`. Each "
    "language has questions of its own; `parallel_ids: true` for translated sets. An example is a positive passage, "
    "with `positives: together` a query with all of them",
    reads=lambda path: reads(_with_placeholder(path)),
    reading=reading,
    fields=frozenset(("passage_ids", "negatives", "positives", "joins")),
    build=from_rows(mrtydi_source),
)
