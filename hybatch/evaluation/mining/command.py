"""`hybatch mine`: add hard negatives to a parallel corpus with an encoder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from hybatch.corpus import ParallelCorpus, open_corpus
from hybatch.corpus.formats.registry import find_format
from hybatch.errors import UserError
from hybatch.evaluation.collection.search import import_faiss
from hybatch.evaluation.encoder_options import check_device, device_of
from hybatch.evaluation.encoding.cut_texts import CutTexts, cut_warnings
from hybatch.evaluation.mining.mine import (
    Mined,
    MiningFigures,
    MiningTask,
    Retrieved,
    encode_task,
    rescore,
    retrieve,
    select_negatives,
    total_figures,
)
from hybatch.evaluation.mining.options import corpus_config, mine_parser, rule_of
from hybatch.evaluation.mining.output import check_mining_output, check_rows, write_filled, write_mined
from hybatch.evaluation.results import versions
from hybatch.evaluation.teacher import Teacher, open_teacher
from hybatch.models import Encoder
from hybatch.processes import fail_together, launched_group, main_first, rank, run_on_main
from hybatch.terminal import table_console

SUMMARY = "add hard negatives to a parallel corpus with an encoder"


def main(argv: Sequence[str]) -> int:
    """Mine, print what was found, write the new corpus; return 0.

    Under a launcher with several processes all of them encode and ask the teacher, the first one searches and writes.

    Raises:
        UserError: an option, a file or the model cannot be used; said before the encoding begins, but for a disk that
            fills up and a rule that leaves no negative at all.
    """
    arguments = mine_parser(SUMMARY).parse_args(argv)
    with launched_group():
        corpus, task = main_first(lambda: _checked_task(arguments))
        device = device_of(arguments)
        encoder = Encoder.load(arguments.model).to(device)
        teacher = open_teacher(arguments.teacher, device=device) if arguments.teacher else None
        cut = CutTexts()
        queries, passages_UH = encode_task(
            encoder, task, batch_size=arguments.batch_size, model=arguments.model, cut=cut
        )
        lines = cut_warnings(cut.counts())
        retrieved: Iterable[Retrieved] | None = None
        if teacher is not None:
            retrieved = _judged(arguments, task, queries, passages_UH, teacher, device)
        problem = None
        if rank() == 0:
            try:
                if retrieved is None:
                    retrieved = retrieve(
                        task, queries, passages_UH, method=arguments.search, device=device, progress=True
                    )
                _finish(arguments, corpus, select_negatives(task, retrieved))
                for line in lines:
                    print(f"warning: {line}", file=sys.stderr)
            except UserError as error:
                problem = str(error)
        fail_together(problem)
    return 0


def _checked_task(arguments: argparse.Namespace) -> tuple[ParallelCorpus, MiningTask]:
    """Check every option and read the corpus, before the model is loaded."""
    rule = rule_of(arguments)
    check_device(arguments)
    if arguments.search != "torch":
        import_faiss()
    config = corpus_config(arguments)
    if rank() == 0:
        check_mining_output(arguments.output, Path(config.path.split("{language}")[0]), overwrite=arguments.overwrite)
    corpus = open_corpus(config, progress=rank() == 0)
    if rank() == 0 and find_format(config, config.path).name == "jsonl":
        check_rows(Path(config.path), corpus)
    return corpus, MiningTask(corpus, arguments.relation, rule)


def _judged(
    arguments: argparse.Namespace,
    task: MiningTask,
    queries: list[np.ndarray],
    passages_UH: np.ndarray,
    teacher: Teacher,
    device: str,
) -> list[Retrieved]:
    """Search on the first process and score what it finds on all."""
    retrieved = run_on_main(
        lambda: list(retrieve(task, queries, passages_UH, method=arguments.search, device=device, progress=True))
    )
    return rescore(task, retrieved, teacher, batch_size=arguments.batch_size, progress=True)


def _finish(arguments: argparse.Namespace, corpus: ParallelCorpus, mined: Mined) -> None:
    """Write first, then print: what reads the output may be gone."""
    total = total_figures(mined.figures)
    table = _table(arguments, mined.figures, total)
    if not total.negatives:
        table_console().print(table)
        raise UserError(
            "no question got a negative, and nothing was written: "
            "widen --ranks, lower --margin, raise --ratio or --max-score, or choose another --relation"
        )
    report = _report(arguments, corpus, mined.figures, total)
    config = corpus_config(arguments)
    if find_format(config, config.path).name == "jsonl":
        write_filled(
            Path(config.path), corpus, arguments.output, mined.negatives, report, save_scores=arguments.save_scores
        )
    else:
        write_mined(corpus, arguments.output, mined.negatives, report, save_scores=arguments.save_scores)
    table_console().print(table)
    rows = sum(corpus.statistics.questions.values()) + sum(corpus.statistics.passages.values())
    print(
        f"wrote {arguments.output}: {total.negatives:,} negatives for {total.with_all + total.with_some:,} questions; "
        f"{rows - 2 * total.questions:,} rows lack a question or a passage and stay as they were"
    )


def _report(
    arguments: argparse.Namespace, corpus: ParallelCorpus, figures: Mapping[str, MiningFigures], total: MiningFigures
) -> dict[str, Any]:
    rule = ("negatives", "relation", "ranks", "margin", "ratio", "max_score", "teacher", "random", "seed")
    options = (*rule, "save_scores", "search", "batch_size")
    return {
        "model": arguments.model,
        "corpus": corpus.fingerprint,
        "corpus_options": arguments.corpus_options,
        "options": {name: getattr(arguments, name) for name in options},
        "languages": {language: asdict(one) for language, one in figures.items()},
        "total": asdict(total),
        "versions": versions(),
    }


def _table(arguments: argparse.Namespace, figures: Mapping[str, MiningFigures], total: MiningFigures) -> Table:
    table = Table(
        title=f"hard negatives: {arguments.model}, relation {arguments.relation}, ranks "
        f"{arguments.ranks[0]} to {arguments.ranks[1]}",
        caption="all, some, none: questions that got as many negatives as asked for, fewer, none; passed over: answers "
        "(the passage, its translations and duplicates) and what scores too high; positive, negative: mean score"
        + (f" by {arguments.teacher}" if arguments.teacher else ""),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("language")
    for heading in ("questions", "all", "some", "none", "negatives", "answers", "too high", "positive", "negative"):
        table.add_column(heading, justify="right")
    for language, one in figures.items():
        table.add_row(language, *_cells(one))
    table.add_section()
    table.add_row("total", *_cells(total), style="bold")
    return table


def _cells(one: MiningFigures) -> list[str]:
    questions = (one.questions, one.with_all, one.with_some, one.with_none)
    counts = (*questions, one.negatives, one.answers_passed, one.above_limit)
    means = (one.positive_similarity, one.negative_similarity)
    return [f"{count:,}" for count in counts] + ["–" if mean is None else f"{mean:.4f}" for mean in means]
