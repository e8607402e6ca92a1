"""One corpus written in the layout of every reader, for tests of what all of them must do alike."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets

Rows = Sequence[tuple[str, str, str]]
"""(id, question, passage), all in one language, `en`."""
Reader = Callable[[Path, Rows], dict[str, Any]]
"""Writes the rows below a folder that is not there yet; returns the corpus's options, `path` among them."""
COLUMNS = ("id", "question", "passage")


def _named(rows: Rows) -> list[dict[str, str]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def _json_lines(rows: Rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _named(rows))


def _file(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    # Ends of lines are part of texts here.
    (folder / name).write_bytes(text.encode())
    return folder / name


def csv_text(rows: Rows, header: Sequence[str] = COLUMNS) -> str:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\r\n') else cell

    return "".join(",".join(map(quoted, row)) + "\n" for row in (header, *rows))


def tsv_text(rows: Rows, header: Sequence[str] = COLUMNS) -> str:
    return "".join("\t".join(row) + "\n" for row in (header, *rows))


def _jsonl_folder(folder: Path, rows: Rows) -> dict[str, Any]:
    _file(folder, "en.jsonl", _json_lines(rows))
    return {"path": folder}


def _squad(folder: Path, rows: Rows) -> dict[str, Any]:
    answers = [{"answer_start": 0, "text": ""}]
    paragraphs = [{"context": p, "qas": [{"id": i, "question": q, "answers": answers}]} for i, q, p in rows]
    _file(folder, "en.json", json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return {"path": folder}


def _data_file(name: str, text: Callable[[Rows], str]) -> Reader:
    def write(folder: Path, rows: Rows) -> dict[str, Any]:
        path = _file(folder, name, text(rows))
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
        return {"path": path, "languages": ["en"]}

    return write


def _data_folder(name: str, text: Callable[[Rows], str]) -> Reader:
    def write(folder: Path, rows: Rows) -> dict[str, Any]:
        _file(folder, name, text(rows))
        return {"path": folder, "languages": ["en"], "format": "datasets"}

    return write


def _dataset(rows: Rows) -> datasets.Dataset:
    return datasets.Dataset.from_dict({name: [row[k] for row in rows] for k, name in enumerate(COLUMNS)})


def _parquet(folder: Path, rows: Rows) -> dict[str, Any]:
    folder.mkdir(parents=True)
    _dataset(rows).to_parquet(folder / "all.parquet")
    return {"path": folder / "all.parquet", "languages": ["en"]}


def _saved(folder: Path, rows: Rows) -> dict[str, Any]:
    _dataset(rows).save_to_disk(folder / "en")
    return {"path": folder}


def _mmarco(folder: Path, rows: Rows) -> dict[str, Any]:
    """The id of a passage is that of its query; an example's is both, see `read_id`."""
    _file(folder / "collections", "english_collection.tsv", "".join(f"{i}\t{p}\n" for i, _, p in rows))
    _file(folder / "queries", "english_queries.train.tsv", "".join(f"{i}\t{q}\n" for i, q, _ in rows))
    _file(folder, "qrels.train.tsv", "".join(f"{i}\t0\t{i}\t1\n" for i, _, _ in rows))
    return {"path": folder}


def _mrtydi(folder: Path, rows: Rows) -> dict[str, Any]:
    """The docid of a passage is the id of its query; an example's is both, see `read_id`."""
    lines = [
        {"query_id": i, "query": q, "positive_passages": [{"docid": i, "title": "", "text": p}]} for i, q, p in rows
    ]
    _file(folder, "en.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return {"path": folder, "format": "mrtydi", "parallel_ids": True}


READERS: dict[str, Reader] = {
    "jsonl": _jsonl_folder,
    "squad": _squad,
    "csv": _data_file("all.csv", csv_text),
    "tsv": _data_file("all.tsv", tsv_text),
    "csv.gz": _data_file("all.csv.gz", csv_text),
    "tsv.gz": _data_file("all.tsv.gz", tsv_text),
    "json lines": _data_file("all.jsonl", _json_lines),
    "json list": _data_file("all.json", lambda rows: json.dumps(_named(rows), indent=1)),
    "folder of csv": _data_folder("train.csv", csv_text),
    "folder of tsv": _data_folder("train.tsv", tsv_text),
    "folder of json lines": _data_folder("train.jsonl", _json_lines),
    "parquet": _parquet,
    "saved": _saved,
    "mmarco": _mmarco,
    "mrtydi": _mrtydi,
}
LINE_READERS = ("tsv", "tsv.gz", "folder of tsv", "mmarco")
"""Of these a text holds neither tabs nor ends of lines."""


def read_id(reader: str, identifier: str) -> str:
    """What the example of a row is called."""
    return {"mmarco": f"{identifier}-{identifier}", "mrtydi": f"{identifier}#{identifier}"}.get(reader, identifier)


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    """A CSV file as Python's own writer makes it."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path
