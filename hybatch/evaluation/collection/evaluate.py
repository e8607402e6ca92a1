"""A search task and an encoder to its figures: encode the collections, search them, count exact ranks.

Q queries, K passages retrieved, H embedding width.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from hybatch.evaluation.collection import own, token_recall
from hybatch.evaluation.collection.exact import exact_ranks
from hybatch.evaluation.collection.judgements import QuerySet, flat_relevant
from hybatch.evaluation.collection.metrics import per_query
from hybatch.evaluation.collection.passages import Passages
from hybatch.evaluation.collection.runs import write_run
from hybatch.evaluation.collection.search import search
from hybatch.evaluation.collection.shards import EncodedPassages, default_root
from hybatch.evaluation.encoding.cut_texts import CutTexts
from hybatch.evaluation.encoding.encode import encode_texts
from hybatch.evaluation.language_figures import metrics_of, summarise
from hybatch.evaluation.results import versions
from hybatch.evaluation.settings.metrics import figures_per_query, mean
from hybatch.evaluation.settings.per_query import QueryTables, language_query_tables
from hybatch.evaluation.task import Scored, ScoringOptions
from hybatch.models import Encoder
from hybatch.processes import rank

if TYPE_CHECKING:
    from hybatch.evaluation.collection.task import CollectionTask


def evaluate_collections(
    encoder: Encoder,
    task: CollectionTask,
    *,
    model: str,
    options: ScoringOptions,
    per_query: QueryTables | None = None,
    cut: CutTexts | None = None,
) -> Scored:
    """Figures per language and their means; collective under torch.distributed.

    The task's metrics are of the passages retrieved, which are exact with the methods torch and faiss-flat; `map` and
    `median_first_rank` come from exact ranks in the whole collection, whatever the method. Queries without a relevant
    passage are left out and counted in `num_skipped`.

    Args:
        per_query: filled, where given, with every query's figures (see `settings.per_query`).
        cut: counts, where given, the texts encoded that the encoder does not read to their end.

    Returns:
        (the object of results.json: as `figures_results`, with "search", "index_dtype", "unknown_judgements",
        "own_documents" where queries and passages have ids in common, see `own.own_documents`, and "tokens" where the
        metrics count them, see `token_recall.word_tokenizer`; timings).

    Raises:
        UserError: the collection cannot be read, encoded or searched.
    """
    timings: dict[str, Any] = {"encoding_seconds": 0.0, "searching_seconds": 0.0, "passages_encoded": 0}
    figures: dict[str, dict[str, Any]] = {}
    values: dict[str, dict[str, np.ndarray]] = {}
    for name, passages in task.collections.items():
        languages = [language for language in task.languages if task.searches[language][0] == name]
        started = time.perf_counter()
        queries = {
            language: encode_texts(
                encoder,
                task.searches[language][1].texts,
                "query",
                batch_size=options.batch_size,
                progress=options.progress,
                model=model,
                cut=cut,
            )
            for language in languages
        }
        encoded = EncodedPassages(
            encoder,
            passages,
            (options.index or default_root()) / task.name,
            batch_size=options.batch_size,
            dtype=options.index_dtype,
            progress=options.progress,
            model=model,
            cut=cut,
        )
        searching = time.perf_counter()
        for language, (means, single) in _score(encoder, task, passages, encoded, queries, options).items():
            figures[language], values[language] = means, single
        timings["encoding_seconds"] += searching - started
        timings["searching_seconds"] += time.perf_counter() - searching
        timings["passages_encoded"] += encoded.num_encoded
    figures = {language: figures[language] for language in task.languages}
    if per_query is not None:
        ids = {language: task.searches[language][1].ids for language in task.languages}
        per_query.update(language_query_tables(ids, values))
    return Scored(_results(task, figures, model, options), timings)


def _score(
    encoder: Encoder,
    task: CollectionTask,
    passages: Passages,
    encoded: EncodedPassages,
    queries: dict[str, np.ndarray],
    options: ScoringOptions,
) -> dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Language -> (figures, those of every query), for the languages that search one collection."""
    device = next(encoder.parameters()).device.type
    all_QH = np.concatenate(list(queries.values()))
    sets = {language: task.searches[language][1] for language in queries}
    own_Q = np.concatenate([own.left_out(one, options.own_documents) for one in sets.values()])
    depth = task.depth + bool((own_Q >= 0).any())
    found = search(options.method, all_QH, encoded, passages, depth, device, options.search_device)
    scores_QK, found_QK = own.without(own_Q, *found, task.depth)
    relevant = [row for one in sets.values() for row in one.relevant]
    ranks_P = np.zeros(0, dtype=np.int64)
    if any(relevant):
        ranks_P = exact_ranks(all_QH, relevant, own_Q, encoded, passages, device=device, backend=options.backend)
    figures, row, place = {}, 0, 0
    for language, one in sets.items():
        numbers_P, offsets = flat_relevant(one.relevant)
        part, mine = slice(row, row + len(one.ids)), ranks_P[place : place + len(numbers_P)]
        row, place = part.stop, place + len(numbers_P)
        figures[language] = _figures(task, one, passages, found_QK[part], mine, offsets)
        if options.save_run and rank() == 0:
            write_run(options.save_run, language, one, passages, scores_QK[part], found_QK[part], numbers_P, mine)
    return figures


def _figures(
    task: CollectionTask,
    one: QuerySet,
    passages: Passages,
    found_QK: np.ndarray,
    ranks_P: np.ndarray,
    offsets: np.ndarray,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if one.answers is not None:
        values = token_recall.per_query(task.metrics, one, passages, found_QK)
        counts: dict[str, Any] = {}
    else:
        exact = figures_per_query(ranks_P, np.repeat(np.arange(len(one.ids)), np.diff(offsets)), len(one.ids))
        values = {metric: per_query(metric, found_QK, one.relevant) for metric in task.metrics}
        values["map"] = np.full(len(one.ids), np.nan)
        values["map"][exact.counted] = exact.average_precision
        first_ranks = np.minimum.reduceat(ranks_P, offsets[:-1][np.diff(offsets) > 0])
        counts = {"median_first_rank": float(np.median(first_ranks))}
    left_out = int(np.isnan(next(iter(values.values()))).sum())
    counts |= {"num_queries": len(one.ids) - left_out, "num_skipped": left_out}
    return {metric: mean(rows[~np.isnan(rows)]) for metric, rows in values.items()} | counts, values


def _has_answers(task: CollectionTask) -> bool:
    return any(one.answers is not None for _, one in task.searches.values())


def _results(
    task: CollectionTask, figures: dict[str, dict[str, Any]], model: str, options: ScoringOptions
) -> dict[str, Any]:
    searches = {language: task.searches[language] for language in task.languages}
    own_documents = task.own_documents(options.own_documents)
    return {
        "task": task.name,
        "model": model,
        "languages": list(task.languages),
        "similarity": "cosine",
        "search": options.method,
        "index_dtype": options.index_dtype,
        **({"tokens": token_recall.word_tokenizer()[0]} if _has_answers(task) else {}),
        "num_queries": {language: len(one.ids) for language, (_, one) in searches.items()},
        "num_candidates": {language: len(task.collections[name]) for language, (name, _) in searches.items()},
        "unknown_judgements": {
            language: {"left_out": one.unknown[0], "of": one.unknown[1], "first": list(one.unknown[2])}
            for language, (_, one) in searches.items()
        },
        **({"own_documents": own_documents} if own_documents else {}),
        "metrics": metrics_of(figures),
        "figures": figures,
        "summary": summarise(figures, {}),
        "versions": versions(),
    }
