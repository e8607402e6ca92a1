"""Embeddings and a task to the figures of every language setting at once.

One pass over the candidates counts, for each positive and each candidate language, the candidates scoring above it;
every monolingual, cross-lingual and multilingual rank is a sum of such counts. Several processes share the candidates,
whatever their languages, and add what they have counted.

Settings: *monolingual*, the pool is the candidates of the query's language; *cross-lingual* (x, y), those of y for
queries of x; *multilingual*, those of all languages, with the positives in all of them; *bilingual*, those of the
query's language and English, with the positives in both.

Q queries (q of them at once), D candidates, P positives, G languages, R distinct positives, C cutoffs, K best places,
H embedding width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from hybatch.errors import UserError
from hybatch.evaluation.embeddings import TaskEmbeddings
from hybatch.evaluation.encoding.encode import EncodedTask
from hybatch.evaluation.results import versions
from hybatch.evaluation.settings.best_languages import TOP_CUTOFFS, BestLanguages, best_languages, language_counts
from hybatch.evaluation.settings.bias_figures import AnswerRanks, bias_figures, pivot_of
from hybatch.evaluation.settings.language_bias import top_language_shares
from hybatch.evaluation.settings.metrics import CUTOFFS, METRICS, QueryFigures, figures_per_query, mean, tie_bounds
from hybatch.evaluation.settings.per_query import QueryTables, best_ranks, query_ids, query_tables
from hybatch.models import Encoder
from hybatch.ops import RankCounter, RankCounts
from hybatch.ops.backend import choose_backend
from hybatch.processes import fail_together, gather_objects, rank, world_size

if TYPE_CHECKING:
    from hybatch.evaluation.settings.task import RetrievalTask

# Candidates read and counted between two steps of the progress bar.
_BLOCK = 2**14
# Memory for counts; with more of them the query languages take turns, and the candidates are read once a turn.
_COUNT_BYTES = 2**32
_BYTES_PER_COUNT = 12
# Of a best candidate: its score and number, and the room in which the CPU's op finds it.
_BYTES_PER_PLACE = 28


@dataclass(frozen=True)
class _LanguageScores:
    """The settings' figures of the queries of one language, and the ranks that the bias metrics come from."""

    pairs: dict[str, Any]
    multilingual: dict[str, Any]
    ties: dict[str, Any]
    per_query: QueryTables
    ranks: AnswerRanks
    best: BestLanguages


def evaluate_encoder(
    encoder: Encoder,
    task: RetrievalTask,
    *,
    model: str = "",
    batch_size: int = 128,
    backend: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Encode and score a task; collective under torch.distributed, with the same result on every process.

    Args:
        encoder: runs on the device of its parameters; its training mode is restored.
        model: what to write under "model".
        batch_size: texts encoded at once by a process.
        backend: of the ranking op: "auto", "torch", "cpu" or "cuda"; the one that ran is in the result.

    Returns:
        the object that results.json holds, see `score`.

    Raises:
        UserError: the encoder gives an embedding that is not finite.
    """
    embeddings = EncodedTask(encoder, task, batch_size=batch_size, progress=progress)
    device = next(encoder.parameters()).device
    return score(embeddings, task, model=model, backend=backend, device=device, progress=progress)


def score(
    embeddings: TaskEmbeddings,
    task: RetrievalTask,
    *,
    model: str,
    backend: str = "auto",
    device: torch.device | str = "cpu",
    progress: bool = True,
    per_query: QueryTables | None = None,
) -> dict[str, Any]:
    """Rank every query's positives in every setting; collective under torch.distributed.

    Each process counts over its share of the candidates, for the queries of all languages; counts are integers, so
    their sum, and every figure, is the same for any number of processes. Candidates are read in blocks; what is held
    is the queries, the positives, 3 P G counts and the best candidates of each query, of some query languages at a time
    where they would pass 4 GiB.

    Args:
        per_query: filled, where given, with every query's figures (see `settings.per_query`).

    Returns:
        {"task", "model", "languages", "backend", "similarity", "num_queries", "num_candidates",
        "pairs": {query language: {candidate language: figures}}, "multilingual": {query language: figures},
        "summary": {"monolingual" | "cross_lingual" | "multilingual": means}, "language_bias", "top_languages", "ties",
        "versions"}.
        Figures are means over the queries that have a positive in the pool (`num_queries`); the others are left out
        (`num_skipped`), and where no query has one the figures are None. The summary holds unweighted means over the
        languages or pairs that have figures (`num_settings`). `ties` speaks of the multilingual setting: the
        positives that share their score with another candidate, and mAP with every tie broken for and against them.
        `top_languages` says which languages the best candidates of that setting are in, right or wrong, see
        `hybatch.evaluation.settings.language_bias.top_language_shares`; `language_bias` holds every metric of
        `hybatch.evaluation.settings.bias_metrics.BIAS_METRICS`, see `hybatch.evaluation.settings.bias_figures`.

    Raises:
        UserError: the processes would use different backends, or scores overflow float32; on every process.
    """
    device = torch.device(device)
    chosen = _agreed_backend(device, backend)
    if per_query is not None:
        per_query.update(query_ids(task))
    num_queries = {language: len(task.queries[language]) for language in task.languages}
    num_candidates = {language: len(task.candidates[language]) for language in task.languages}
    pivot = pivot_of(num_candidates)
    scored = _scored(embeddings, task, chosen, device, progress, pivot)
    best = {x: one.best for x, one in scored.items()}
    bias, bias_tables = bias_figures({x: one.ranks for x, one in scored.items()}, best, num_candidates)
    if per_query is not None:
        for one in scored.values():
            per_query.update(one.per_query)
        per_query.update(bias_tables)
    pairs = {language: one.pairs for language, one in scored.items()}
    multilingual = {language: one.multilingual for language, one in scored.items()}
    top_counts = {x: language_counts(one.pool_QK, len(task.languages)) for x, one in best.items()}
    return {
        "task": task.name,
        "model": model,
        "languages": list(task.languages),
        "backend": chosen,
        "similarity": embeddings.similarity,
        "num_queries": num_queries,
        "num_candidates": num_candidates,
        "pairs": pairs,
        "multilingual": multilingual,
        "summary": _summary(pairs, multilingual),
        "language_bias": bias,
        "top_languages": top_language_shares(top_counts, num_queries, num_candidates),
        "ties": _joined_ties([one.ties for one in scored.values()]),
        "versions": versions(),
    }


def _scored(
    embeddings: TaskEmbeddings,
    task: RetrievalTask,
    backend: str,
    device: torch.device,
    progress: bool,
    pivot: str | None,
) -> dict[str, _LanguageScores]:
    """Query language -> its figures."""
    scored: dict[str, _LanguageScores] = {}
    for languages in _turns(task):
        counts = _count(embeddings, task, languages, backend, device, progress)
        scored |= _figures(counts, task, languages, pivot)
    return scored


def _turns(task: RetrievalTask) -> list[list[str]]:
    """The query languages in consecutive groups whose counts fit into memory, at least one in each."""
    turns: list[list[str]] = []
    left = 0
    for language in task.languages:
        needed = sum(map(len, task.positives[language])) * len(task.languages) * _BYTES_PER_COUNT
        needed += len(task.queries[language]) * (max(TOP_CUTOFFS) + len(task.languages)) * _BYTES_PER_PLACE
        if not turns or needed > left:
            turns.append([])
            left = _COUNT_BYTES
        turns[-1].append(language)
        left -= needed
    return turns


def _count(
    embeddings: TaskEmbeddings,
    task: RetrievalTask,
    languages: Sequence[str],
    backend: str,
    device: torch.device,
    progress: bool,
) -> RankCounts:
    """Counts of all candidates for the positives of these languages' queries; the same on every process."""
    share = range(
        task.num_candidates * rank() // world_size(),
        task.num_candidates * (rank() + 1) // world_size(),
    )
    groups_D = task.candidate_groups()
    problem = None
    try:
        counter = _counter(embeddings, task, languages, backend, device)
        with tqdm(
            total=len(share), desc="scoring", unit="candidate", disable=not progress or rank() > 0, leave=False
        ) as bar:
            for first in share[::_BLOCK]:
                index_D = np.arange(first, min(first + _BLOCK, share.stop))
                rows_DH = torch.from_numpy(_candidates(embeddings, task, index_D))
                counter.add(rows_DH, groups_D[index_D], first)
                bar.update(len(index_D))
    except ValueError as error:
        problem = f"the embeddings cannot be ranked: {error}"
    fail_together(problem)
    if world_size() > 1:
        counter.all_reduce()
    return counter.finish(task.num_candidates)


def _counter(
    embeddings: TaskEmbeddings, task: RetrievalTask, languages: Sequence[str], backend: str, device: torch.device
) -> RankCounter:
    queries_QH = np.concatenate([embeddings.embeddings("queries", language) for language in languages])
    parts = [task.positives_of(language) for language in languages]
    positives_P = np.concatenate([positives for positives, _ in parts])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(offsets) for _, offsets in parts]))])
    distinct_R, rows_P = np.unique(positives_P, return_inverse=True)
    tensors = (queries_QH, _candidates(embeddings, task, distinct_R), positives_P, offsets, rows_P)
    queries, positive_embeddings, positive_index, positive_offsets, positive_rows = (
        torch.from_numpy(array).to(device) for array in tensors
    )
    return RankCounter(
        queries,
        positive_embeddings,
        positive_index,
        positive_offsets,
        len(task.languages),
        positive_rows=positive_rows,
        best=min(max(TOP_CUTOFFS), task.num_candidates),
        backend=backend,
    )


def _candidates(embeddings: TaskEmbeddings, task: RetrievalTask, index_N: np.ndarray) -> np.ndarray:
    """Embeddings [N, H] of candidates given by their pool indices, N > 0, ascending."""
    parts, start = [], 0
    for language in task.languages:
        stop = start + len(task.candidates[language])
        low, high = np.searchsorted(index_N, (start, stop))
        if low < high:
            parts.append(embeddings.embeddings("candidates", language, index_N[low:high] - start))
        start = stop
    return np.concatenate(parts)


def _figures(
    counts: RankCounts, task: RetrievalTask, languages: Sequence[str], pivot: str | None
) -> dict[str, _LanguageScores]:
    """Query language -> its figures, for these languages."""
    tables = [tensor.cpu().numpy() for tensor in (counts.greater, counts.tied_before, counts.tied_after)]
    assert counts.best is not None
    groups_D, numbers = task.candidate_groups(), {x: number for number, x in enumerate(task.languages)}
    scored, start, first_query = {}, 0, 0
    for language in languages:
        positives_P, offsets = task.positives_of(language)
        end, end_query = start + len(positives_P), first_query + len(offsets) - 1
        counts_PG = [table[start:end] for table in tables]
        queries = slice(first_query, end_query)
        best = best_languages(counts.best, queries, groups_D, numbers[language], numbers[pivot] if pivot else None)
        scored[language] = _score_language(task, language, positives_P, offsets, counts_PG, pivot, best)
        start, first_query = end, end_query
    return scored


def _score_language(
    task: RetrievalTask,
    language: str,
    positives_P: np.ndarray,
    offsets: np.ndarray,
    counts_PG: Sequence[np.ndarray],
    pivot: str | None,
    best: BestLanguages,
) -> _LanguageScores:
    greater_PG, before_PG, after_PG = (table.astype(np.int64) for table in counts_PG)
    group_P = task.candidate_groups()[positives_P].astype(np.int64)
    query_P = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    ranks_PG = 1 + greater_PG + before_PG
    settings = []
    for group in range(len(task.languages)):
        inside = group_P == group
        settings.append(figures_per_query(ranks_PG[inside, group], query_P[inside], len(offsets) - 1))
    greater_P, before_P, after_P = (table.sum(axis=1) for table in (greater_PG, before_PG, after_PG))
    pool_ranks_P = 1 + greater_P + before_P
    pool = figures_per_query(pool_ranks_P, query_P, len(offsets) - 1)
    pair_ranks_P = None
    if pivot is not None and language != pivot:
        own, other = (ranks_PG[:, task.languages.index(x)] for x in (language, pivot))
        pair_ranks_P = own + other - 1
    return _LanguageScores(
        pairs={other: _means(figures) for other, figures in zip(task.languages, settings, strict=True)},
        multilingual={**_means(pool), "rank_distance": mean(pool.rank_distance)},
        ties=_ties(greater_P, before_P + after_P, query_P, len(offsets) - 1),
        per_query=query_tables(
            language, settings, pool, best_ranks(pool_ranks_P, query_P, group_P, len(offsets) - 1, len(task.languages))
        ),
        ranks=AnswerRanks(query_P, group_P, pool_ranks_P, pair_ranks_P),
        best=best,
    )


def _ties(greater_P: np.ndarray, tied_P: np.ndarray, query_P: np.ndarray, num_queries: int) -> dict[str, Any]:
    bounds = (figures_per_query(ranks_P, query_P, num_queries) for ranks_P in tie_bounds(greater_P, tied_P, query_P))
    optimistic, pessimistic = (mean(figures.average_precision) for figures in bounds)
    return {
        "positives_tied": int((tied_P > 0).sum()),
        "map_optimistic": optimistic,
        "map_pessimistic": pessimistic,
    }


def _joined_ties(ties: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "positives_tied": sum(one["positives_tied"] for one in ties),
        "map_optimistic": _mean_of(ties, "map_optimistic"),
        "map_pessimistic": _mean_of(ties, "map_pessimistic"),
    }


def _means(figures: QueryFigures) -> dict[str, Any]:
    return {
        "map": mean(figures.average_precision),
        **{f"recall@{k}": mean(figures.recall[k]) for k in CUTOFFS},
        **{f"hit@{k}": mean(figures.hit[k]) for k in CUTOFFS},
        "num_queries": figures.num_queries,
        "num_skipped": figures.num_skipped,
    }


def _summary(
    pairs: Mapping[str, Mapping[str, Mapping[str, Any]]], multilingual: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    cells = [(x, y, figures) for x, row in pairs.items() for y, figures in row.items()]
    settings = {
        "monolingual": ([figures for x, y, figures in cells if x == y], METRICS),
        "cross_lingual": ([figures for x, y, figures in cells if x != y], METRICS),
        "multilingual": (list(multilingual.values()), (*METRICS, "rank_distance")),
    }
    return {
        name: {
            **{metric: _mean_of(figures, metric) for metric in metrics},
            "num_settings": sum(cell["num_queries"] > 0 for cell in figures),
        }
        for name, (figures, metrics) in settings.items()
    }


def _mean_of(cells: Iterable[Mapping[str, Any]], metric: str) -> float | None:
    return mean(cell[metric] for cell in cells if cell[metric] is not None)


def _agreed_backend(device: torch.device, requested: str) -> str:
    names = sorted(set(gather_objects(choose_backend(device, requested))))
    if len(names) > 1:
        raise UserError(f"the processes would rank with different backends ({', '.join(names)}): name one of them")
    return names[0]
