"""Every setting on a parallel corpus of one's own: its questions against its passages.

Queries of a language are its rows with a question. Candidates are its distinct passages: of the rows of one passage
group that repeat a text, the first. Positives of a query are the candidates of its passage group in every language.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hybatch.corpus import CorpusConfig, ParallelCorpus, open_corpus
from hybatch.corpus.formats.jsonl import JsonlSource
from hybatch.corpus.rows import language_names
from hybatch.errors import UserError
from hybatch.evaluation.catalogue.entry import TaskEntry
from hybatch.evaluation.settings.task import METRIC, SETTINGS, LabelledTexts, RetrievalTask, join_by_label
from hybatch.processes import rank


def parallel_languages(data_dir: Path) -> list[str]:
    """The languages of the corpus in `data_dir`, or in its subfolder `parallel`.

    Raises:
        UserError: neither holds a `<lang>.jsonl`.
    """
    return language_names(_folder(data_dir), ".jsonl")


def load_parallel(data_dir: Path, languages: Sequence[str]) -> RetrievalTask:
    """The task of the `<lang>.jsonl` files in `data_dir`; queries and candidates stand in file order.

    Raises:
        UserError: a file is missing or malformed, or no question has a passage.
    """
    folder = _folder(data_dir)
    corpus = open_corpus(
        CorpusConfig(path=str(folder), format="jsonl", languages=list(languages)), progress=rank() == 0
    )
    number = {identifier: example for example, identifier in enumerate(corpus.ids(slice(None)))}
    source = JsonlSource(folder, languages)
    order = {
        language: np.array([number[i] for batch in source.batches(language) for i in batch.ids], dtype=np.int64)
        for language in corpus.languages
    }
    return _task("parallel", corpus, order)


def parallel_task(
    corpus: ParallelCorpus, languages: Sequence[str] | None = None, limit: int | None = None
) -> RetrievalTask:
    """The task of an opened corpus, for validation while training.

    Args:
        languages: only these; default all of the corpus.
        limit: take at most so many examples, evenly spaced over the corpus; the passages of the others are no
            candidates either.

    Raises:
        UserError: the corpus lacks a language, `limit` is below 1, or no question has a passage.
    """
    wanted = sorted(set(languages)) if languages else list(corpus.languages)
    unknown = [language for language in wanted if language not in corpus.languages]
    if unknown:
        raise UserError(f"corpus {corpus.name}: no language {', '.join(unknown)}; it has {', '.join(corpus.languages)}")
    if limit is not None and limit < 1:
        raise UserError(f"corpus {corpus.name}: a limit of {limit} examples leaves nothing to evaluate")
    count = min(limit or corpus.num_examples, corpus.num_examples)
    examples = np.arange(count, dtype=np.int64) * corpus.num_examples // count
    return _task(corpus.name, corpus, dict.fromkeys(wanted, examples))


def _task(name: str, corpus: ParallelCorpus, order: Mapping[str, np.ndarray]) -> RetrievalTask:
    return join_by_label(name, {language: _texts(corpus, language, examples) for language, examples in order.items()})


def _texts(corpus: ParallelCorpus, language: str, examples: np.ndarray) -> LabelledTexts:
    index = corpus.languages.index(language)
    bit = np.uint64(1 << index)
    asked = examples[(corpus.question_mask(examples) & bit) != 0]
    answered = examples[(corpus.passage_mask(examples) & bit) != 0]
    passages = corpus.passages(answered, np.full(len(answered), index))
    distinct = dict.fromkeys(zip(corpus.passage_groups(answered).tolist(), passages, strict=True))
    return LabelledTexts(
        queries=corpus.questions(asked, np.full(len(asked), index)),
        query_labels=[str(group) for group in corpus.passage_groups(asked).tolist()],
        candidates=[text for _, text in distinct],
        candidate_labels=[[str(group)] for group, _ in distinct],
    )


def _folder(data_dir: Path) -> Path:
    for folder in (Path(data_dir), Path(data_dir) / "parallel"):
        if language_names(folder, ".jsonl"):
            return folder
    raise UserError(
        f"--data-dir {data_dir}: holds no <lang>.jsonl, nor does its subfolder parallel/; task parallel reads one file "
        'per language with rows {"id", "question", "passage"}'
    )


PARALLEL = TaskEntry(
    name="parallel",
    summary="your own <lang>.jsonl corpus in --data-dir, its passages as candidates",
    languages=parallel_languages,
    settings=SETTINGS,
    metric=METRIC,
    source="your own",
    licence="your own",
    layout='<lang>.jsonl of rows {"id", "question", "passage"}',
    load=load_parallel,
)
