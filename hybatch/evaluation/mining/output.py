"""The mined corpus on disk: the rows of the old one as `<lang>.jsonl`, their `negatives` filled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybatch.atomic import atomic_directory
from hybatch.corpus import ParallelCorpus
from hybatch.corpus.rows import language_files
from hybatch.errors import UserError
from hybatch.evaluation.mining.mine import Negatives
from hybatch.evaluation.results import dump, json_text
from hybatch.paths import check_replaceable

REPORT = "mining.json"
_ROWS_AT_ONCE = 4096


def check_mining_output(
    output: Path, corpus: Path, *, overwrite: bool, report: str = REPORT, command: str = "mine"
) -> None:
    """Refuse a folder that must not be replaced, before the encoding begins.

    Args:
        report: the file by which a folder is known that `command` has written.

    Raises:
        UserError: it is or holds the corpus or is inside it, holds something else, or cannot be written.
    """
    here, source = output.resolve(), corpus.resolve()
    if here == source or here in source.parents or source in here.parents:
        raise UserError(f"--output {output}: must be a folder apart from --corpus {corpus}, which stays as it is")
    check_replaceable(output, "--output")
    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / report).is_file():
        raise UserError(f"--output {output}: holds files that no hybatch {command} has written; choose another folder")
    if not overwrite:
        raise UserError(
            f"--output {output}: holds a corpus that hybatch {command} has written; choose another folder, or give "
            "--overwrite"
        )


def check_rows(folder: Path, corpus: ParallelCorpus) -> None:
    """Try what `write_filled` will read and write, before the encoding begins: fields that indexing leaves alone, too.

    Args:
        corpus: `folder` as it was opened.

    Raises:
        UserError: names the file and what of it cannot be written again.
    """
    known = set(corpus.ids(slice(None)))
    for path in language_files(folder, ".jsonl", corpus.languages).values():
        for row in read_rows(path):
            try:
                json_text(row).encode()
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}: the row of id {row['id']!r} cannot be written again ({error})") from error
            if row["id"] not in known:
                raise UserError(f"{path}: id {row['id']!r} was not there when the corpus was read; mine again")


def write_filled(
    folder: Path,
    corpus: ParallelCorpus,
    output: Path,
    negatives: Mapping[str, Mapping[int, Negatives]],
    report: dict[str, Any],
    *,
    save_scores: bool = False,
) -> None:
    """Write the `<lang>.jsonl` of `folder` anew, with `negatives`, and the report; the folder appears whole or not.

    A row that was mined for has the list found and none where nothing was found; any other row stays as it was.

    Args:
        corpus: `folder` as it was opened.
        negatives: language -> example -> what was found.
        save_scores: also fill `scores`, of the passage and of each of the negatives; without it, what a row that was
            mined for had there goes with its old negatives.

    Raises:
        UserError: the folder cannot be written, or the corpus was changed since it was opened.
    """
    number = {identifier: example for example, identifier in enumerate(corpus.ids(slice(None)))}

    def filled(language: str, path: Path) -> Iterator[dict[str, Any]]:
        for row in read_rows(path):
            _fill(row, path, number, negatives[language], save_scores)
            yield row

    files = language_files(folder, ".jsonl", corpus.languages)
    _write(output, {language: filled(language, path) for language, path in files.items()}, report)


def write_mined(
    corpus: ParallelCorpus,
    output: Path,
    negatives: Mapping[str, Mapping[int, Negatives]],
    report: dict[str, Any],
    *,
    save_scores: bool = False,
) -> None:
    """Write a corpus of any format as `<lang>.jsonl`, with `negatives`, and the report; as `write_filled` otherwise.

    Passage groups are kept, as `passage_id`. Where several examples share an id, the later ones get a number to it.

    Raises:
        UserError: the folder cannot be written.
    """
    names = _distinct(corpus.ids(slice(None)))
    rows = {
        language: _rows_of(corpus, place, names, negatives[language], save_scores)
        for place, language in enumerate(corpus.languages)
    }
    _write(output, rows, report)


def _write(output: Path, rows: Mapping[str, Iterator[dict[str, Any]]], report: dict[str, Any]) -> None:
    try:
        with atomic_directory(output) as partial:
            for language, listed in rows.items():
                with open(partial / f"{language}.jsonl", "w", encoding="utf-8", newline="\n") as file:
                    for row in listed:
                        file.write(json_text(row) + "\n")
            (partial / REPORT).write_text(dump(report), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror or error})") from error


def _distinct(ids: list[str]) -> list[str]:
    taken = set(ids)
    if len(taken) == len(ids):
        return ids
    names: list[str] = []
    used: set[str] = set()
    for identifier in ids:
        name, number = identifier, 1
        while name in used or (number > 1 and name in taken):
            number += 1
            name = f"{identifier}#{number}"
        used.add(name)
        names.append(name)
    return names


def _rows_of(
    corpus: ParallelCorpus, place: int, names: Sequence[str], negatives: Mapping[int, Negatives], save_scores: bool
) -> Iterator[dict[str, Any]]:
    """The rows of corpus.languages[place], in the order of the examples."""
    bit = np.uint64(1 << place)
    has_question, has_passage = (
        (mask & bit) != 0 for mask in (corpus.question_mask(slice(None)), corpus.passage_mask(slice(None)))
    )
    present = np.flatnonzero(has_question | has_passage)
    for start in range(0, len(present), _ROWS_AT_ONCE):
        examples = present[start : start + _ROWS_AT_ONCE]
        asked, answered = examples[has_question[examples]], examples[has_passage[examples]]
        questions = dict(zip(asked.tolist(), corpus.questions(asked, np.full(len(asked), place)), strict=True))
        passages = dict(zip(answered.tolist(), corpus.passages(answered, np.full(len(answered), place)), strict=True))
        groups = corpus.passage_groups(examples).tolist()
        earlier = corpus.hard_negatives(examples, np.full(len(examples), place))
        positives = _positives_of(corpus, place, answered)
        for example, group, old in zip(examples.tolist(), groups, earlier, strict=True):
            found = negatives.get(example, Negatives(old, []))
            row = {
                "id": names[example],
                "question": questions.get(example),
                "passage": passages.get(example),
                "passage_id": str(group),
                "negatives": found.texts,
                "positives": positives.get(example),
                "scores": found.scores if save_scores else [],
            }
            yield {name: value for name, value in row.items() if value}


def _positives_of(corpus: ParallelCorpus, place: int, answered: NDArray[np.int64]) -> dict[int, list[dict[str, Any]]]:
    """What examples list in a language as more than their passage, or with a score."""
    if not corpus.has_positives:
        return {}
    listed = zip(answered.tolist(), corpus.positives(answered, np.full(len(answered), place)), strict=True)
    return {
        example: [{"text": text, "score": score} for text, score in positives]
        for example, positives in listed
        if [score for _, score in positives] != [1.0]
    }


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a `<lang>.jsonl` file that indexing has found good, with every field."""
    with open(path, encoding="utf-8-sig", newline="\n") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def _fill(
    row: dict[str, Any], path: Path, number: Mapping[str, int], negatives: Mapping[int, Negatives], save_scores: bool
) -> None:
    if row["id"] not in number:
        raise UserError(f"{path}: id {row['id']!r} was not there when mining began; mine again")
    found = negatives.get(number[row["id"]])
    if found is None:
        return
    for name, values in (("negatives", found.texts), ("scores", found.scores if save_scores else [])):
        if values:
            row[name] = values
        else:
            row.pop(name, None)
