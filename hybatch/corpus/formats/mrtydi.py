"""The layout of Mr. TyDi and MIRACL: query_id, query, positive_passages, negative_passages; a data set a language."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybatch.corpus.formats.entry import FormatEntry, from_rows
from hybatch.corpus.formats.hub import Columns, DatasetSource
from hybatch.corpus.rows import RowBatch
from hybatch.errors import UserError

if TYPE_CHECKING:
    from hybatch.corpus.config import CorpusConfig


def mrtydi_source(config: CorpusConfig, path: str) -> DatasetSource:
    """Rows of `path`: one example per query and positive passage, all of one query in one passage group.

    A passage is its title, if any, a space, and its text. Passages are told apart by `docid`, which each language
    numbers for itself unless `parallel_ids` says otherwise.

    Args:
        config: `subset` gives the hub configuration, by default the language's name.
        path: hub id, or a folder with <lang>.jsonl, <lang>.jsonl.gz or saved data sets, or a path with {language}.

    Raises:
        UserError: as DatasetSource, and where a row lacks its query, its positive passages or their texts.
    """
    if "{language}" not in path and Path(path).exists():
        suffixes = [suffix for suffix in (".jsonl", ".jsonl.gz", ".parquet") if any(Path(path).glob(f"*{suffix}"))]
        path = f"{path}/{{language}}{suffixes[0]}" if suffixes else path
    elif "{language}" not in path and config.subset is None:
        config = replace(config, subset="{language}")
    return DatasetSource(config, path, _converter(parallel_ids=config.parallel_ids))


def _converter(*, parallel_ids: bool) -> Callable[[Columns, str, Callable[[int], str]], RowBatch]:
    def convert(columns: Columns, language: str, place: Callable[[int], str]) -> RowBatch:
        for name in ("query_id", "query", "positive_passages"):
            if name not in columns:
                there = ", ".join(name for name in columns if name != "@row")
                raise UserError(f"{place(0)}: no column {name!r}; there are {there}: is this Mr. TyDi's layout?")
        scope = "" if parallel_ids else f"{language}:"
        batch = RowBatch(ids=[], questions=[], passages=[], passage_ids=[], negatives=[], joins=[], place=place, work=0)
        origins: list[int] = []
        negative_column = columns.get("negative_passages") or [None] * len(columns["query"])
        rows = zip(columns["query_id"], columns["query"], columns["positive_passages"], negative_column, strict=True)
        for row, (query_id, query, positives, negatives) in enumerate(rows):
            if query_id is None or not positives:
                raise UserError(f"{place(row)}: a query needs a query_id and at least one of positive_passages")
            _add_query(batch, f"{scope}{query_id}", query, scope, positives, negatives or [])
            origins.extend([row] * len(positives))
        batch.place = lambda example: place(origins[example])
        batch.work = len(columns["query"])
        if not any(batch.negatives or ()):
            batch.negatives = None
        return batch

    return convert


def _add_query(
    batch: RowBatch, query_id: str, query: Any, scope: str, positives: list[Any], negatives: list[Any]
) -> None:
    assert batch.passage_ids is not None
    assert batch.negatives is not None
    assert batch.joins is not None
    for passage in positives:
        batch.ids.append(f"{query_id}#{passage.get('docid')}")
        batch.questions.append(query)
        batch.passages.append(_passage_text(passage))
        batch.passage_ids.append(f"{scope}{passage['docid']}" if passage.get("docid") else None)
        batch.negatives.append([_passage_text(negative) for negative in negatives])
        batch.joins.append(query_id)


def _passage_text(passage: dict[str, Any]) -> str:
    """Empty where the text is: sets without texts (their test splits) must not pass for sets of titles."""
    title, text = passage.get("title") or "", passage.get("text") or ""
    return f"{title} {text}".strip() if text.strip() else ""


MRTYDI = FormatEntry(
    name="mrtydi",
    description="Mr. TyDi's and MIRACL's layout: `query_id`, `query`, `positive_passages`, `negative_passages`. Each "
    "language has questions of its own; `parallel_ids: true` for translated sets",
    build=from_rows(mrtydi_source),
)
