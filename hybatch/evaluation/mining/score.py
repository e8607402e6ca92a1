"""`hybatch score`: add a teacher's scores to the passages and hard negatives of a corpus."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybatch.atomic import atomic_directory
from hybatch.corpus import CorpusConfig, ParallelCorpus, open_corpus
from hybatch.corpus.rows import language_files
from hybatch.errors import UserError
from hybatch.evaluation.encoder_options import add_encoder_options, check_device, device_of
from hybatch.evaluation.mining.output import check_mining_output, check_rows, read_rows
from hybatch.evaluation.results import dump, json_text, versions
from hybatch.evaluation.teacher import Teacher, open_teacher
from hybatch.paths import expand_path, folder_of
from hybatch.processes import fail_together, launched_group, main_first, rank

SUMMARY = "add a teacher's scores to the passages and hard negatives of a corpus"
REPORT = "scoring.json"


def main(argv: Sequence[str]) -> int:
    """Score and write the new corpus; return 0.

    Under a launcher with several processes all of them score, the first one writes.

    Raises:
        UserError: an option, a file or the model cannot be used; said before the scoring begins, but for a disk that
            fills up.
    """
    arguments = _parser().parse_args(argv)
    with launched_group():
        folder = Path(expand_path(arguments.corpus, "--corpus"))
        corpus = main_first(lambda: _checked_corpus(arguments, folder))
        device = device_of(arguments)
        teacher = open_teacher(arguments.teacher, device=device)
        files = language_files(folder, ".jsonl", corpus.languages)
        scores = {language: _scores(path, language, teacher, arguments.batch_size) for language, path in files.items()}
        problem = None
        if rank() == 0:
            try:
                _write(arguments, corpus, files, scores)
            except UserError as error:
                problem = str(error)
        fail_together(problem)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hybatch score", description=SUMMARY[0].upper() + SUMMARY[1:] + ".")
    parser.add_argument(
        "--teacher",
        required=True,
        metavar="PATH_OR_HUB_ID",
        help="an encoder, whose scores are cosines, or a cross-encoder of sentence-transformers",
    )
    parser.add_argument(
        "--corpus",
        required=True,
        metavar="DIR",
        help="a folder of <lang>.jsonl, which hybatch mine makes of any corpus; is not changed",
    )
    parser.add_argument(
        "--output", required=True, type=folder_of("--output"), metavar="DIR", help="the same corpus with its scores"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the scored corpus in --output")
    add_encoder_options(parser, at_once="texts, of a cross-encoder pairs, scored at once by a process")
    return parser


def _checked_corpus(arguments: argparse.Namespace, folder: Path) -> ParallelCorpus:
    """Check every option and read the corpus, before the model is loaded."""
    check_device(arguments)
    if rank() == 0:
        check_mining_output(arguments.output, folder, overwrite=arguments.overwrite, report=REPORT, command="score")
    corpus = open_corpus(CorpusConfig(path=str(folder), format="jsonl"), progress=rank() == 0)
    both = corpus.question_mask(slice(None)) & corpus.passage_mask(slice(None))
    if not both.any():
        raise UserError(f"{folder}: no row has both a question and a passage, so there is nothing to score")
    if rank() == 0:
        check_rows(folder, corpus)
    return corpus


def _compared(row: dict[str, Any]) -> list[str]:
    """The passage and the hard negatives of a row; none where there is nothing to score."""
    if row.get("question") is None or row.get("passage") is None:
        return []
    return [row["passage"], *(row.get("negatives") or ())]


def _scores(path: Path, language: str, teacher: Teacher, batch_size: int) -> np.ndarray:
    """float32, of everything that is compared in a language, row by row; collective."""
    queries: list[str] = []
    passages: list[str] = []
    for row in read_rows(path):
        for passage in _compared(row):
            queries.append(row["question"])
            passages.append(passage)
    if rank() == 0:
        print(f"{language}: {len(queries):,} scores", flush=True)
    return teacher.scores(queries, passages, batch_size=batch_size)


def _write(
    arguments: argparse.Namespace, corpus: ParallelCorpus, files: dict[str, Path], scores: dict[str, np.ndarray]
) -> None:
    """Write every row as it was, with its scores; the folder appears whole or not."""
    number_scored = number_left = 0
    try:
        with atomic_directory(arguments.output) as partial:
            for language, path in files.items():
                found = iter(scores[language].tolist())
                with open(partial / f"{language}.jsonl", "w", encoding="utf-8", newline="\n") as file:
                    for row in read_rows(path):
                        compared = _compared(row)
                        if compared:
                            row["scores"] = [next(found) for _ in compared]
                        number_scored += len(compared) > 0
                        number_left += not compared
                        file.write(json_text(row) + "\n")
            report = {
                "teacher": arguments.teacher,
                "corpus": corpus.fingerprint,
                "rows": number_scored,
                "scores": {language: len(found) for language, found in scores.items()},
                "versions": versions(),
            }
            (partial / REPORT).write_text(dump(report), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {arguments.output}: cannot be written ({error.strerror or error})") from error
    print(
        f"wrote {arguments.output}: {sum(map(len, scores.values())):,} scores of {number_scored:,} rows; "
        f"{number_left:,} rows lack a question or a passage and stay as they were"
    )
