"""The mined corpus on disk: the rows of the old one, their `negatives` filled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hybatch.atomic import atomic_directory
from hybatch.corpus import ParallelCorpus
from hybatch.corpus.rows import language_files
from hybatch.errors import UserError
from hybatch.evaluation.results import dump
from hybatch.paths import check_writable

REPORT = "mining.json"


def check_mining_output(output: Path, corpus: Path, *, overwrite: bool) -> None:
    """Refuse a folder that must not be replaced, before the encoding begins.

    Raises:
        UserError: it is or holds the corpus or is inside it, holds something else, or cannot be written.
    """
    here, source = output.resolve(), corpus.resolve()
    if here == source or here in source.parents or source in here.parents:
        raise UserError(f"--output {output}: must be a folder apart from --corpus {corpus}, which stays as it is")
    check_writable(output, "--output")
    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / REPORT).is_file():
        raise UserError(f"--output {output}: holds files that no hybatch mine has written; choose another folder")
    if not overwrite:
        raise UserError(f"--output {output}: holds a mined corpus; choose another folder, or give --overwrite")


def write_mined(
    folder: Path,
    corpus: ParallelCorpus,
    output: Path,
    negatives: Mapping[str, Mapping[int, list[str]]],
    report: dict[str, Any],
) -> None:
    """Write the `<lang>.jsonl` of `folder` anew, with `negatives`, and the report; the folder appears whole or not.

    A row that was mined for has the list found and none where nothing was found; any other row stays as it was.

    Args:
        corpus: `folder` as it was opened.
        negatives: language -> example -> texts.

    Raises:
        UserError: the folder cannot be written, or the corpus was changed since it was opened.
    """
    number = {identifier: example for example, identifier in enumerate(corpus.ids(slice(None)))}
    try:
        with atomic_directory(output) as partial:
            for language, path in language_files(folder, ".jsonl", corpus.languages).items():
                with open(partial / path.name, "w", encoding="utf-8", newline="\n") as file:
                    for row in _rows(path):
                        _fill(row, path, number, negatives[language])
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
            (partial / REPORT).write_text(dump(report), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror})") from error


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def _fill(row: dict[str, Any], path: Path, number: Mapping[str, int], negatives: Mapping[int, list[str]]) -> None:
    if row["id"] not in number:
        raise UserError(f"{path}: id {row['id']!r} was not there when mining began; mine again")
    found = negatives.get(number[row["id"]])
    if found is None:
        return
    if found:
        row["negatives"] = found
    else:
        row.pop("negatives", None)
