"""The languages of the best candidates of every query of a task, found by all processes together.

Q queries of one language, D candidates, H embedding width, K best places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from hybatch.evaluation.embeddings import TaskEmbeddings
from hybatch.evaluation.settings.top_candidates import TOP_CUTOFFS, Pool, best_languages
from hybatch.processes import gather_objects, rank, world_size

if TYPE_CHECKING:
    from hybatch.evaluation.settings.task import RetrievalTask


@dataclass(frozen=True)
class BestCandidates:
    """Languages of the best candidates of the queries of one language, best first; int16.

    pool_QK: among all candidates; of a pool with fewer than the largest of `TOP_CUTOFFS`, all.
    pair_Q1: among those of the query's language and English; None where there is no such pool.
    """

    pool_QK: np.ndarray
    pair_Q1: np.ndarray | None


def best_candidates(
    embeddings: TaskEmbeddings,
    task: RetrievalTask,
    backend: str,
    device: torch.device,
    progress: bool,
    pivot: str | None,
) -> dict[str, BestCandidates]:
    """Query language -> the languages of its queries' best candidates; collective, the same on every process.

    Each process takes a share of the queries, since a query's best candidates do not depend on the others.

    Args:
        pivot: the language that bilingual pools have beside the query's; None for no such pools.
    """
    shares = {
        x: slice(*(len(task.queries[x]) * r // world_size() for r in (rank(), rank() + 1))) for x in task.languages
    }
    total = sum(share.stop - share.start for share in shares.values())
    rows = [embeddings.embeddings("candidates", x) for x in task.languages if task.candidates[x]]
    candidates_DH = torch.from_numpy(np.concatenate(rows)).to(device)
    groups_D = torch.from_numpy(task.candidate_groups()).to(device, torch.int64)
    parts: dict[str, list[list[np.ndarray]]] = {x: [] for x in task.languages}
    with tqdm(
        total=total, desc="best candidates", unit="query", disable=not progress or rank() > 0, leave=False
    ) as bar:
        for language, share in shares.items():
            if share.start == share.stop:
                continue
            queries_QH = torch.from_numpy(embeddings.embeddings("queries", language, share)).to(device)
            pools = _pools(task, language, pivot)
            for found in best_languages(queries_QH, candidates_DH, groups_D, pools, backend=backend):
                parts[language].append(found)
                bar.update(len(found[0]))
    everything = gather_objects(parts)
    return {x: _joined([one for theirs in everything for one in theirs[x]]) for x in task.languages}


def _pools(task: RetrievalTask, language: str, pivot: str | None) -> list[Pool]:
    """All candidates, and those of the language and the pivot where it has such a pool."""
    ends = np.cumsum([len(task.candidates[x]) for x in task.languages]).tolist()
    everything = Pool([slice(0, task.num_candidates)], max(TOP_CUTOFFS))
    if pivot is None or language == pivot:
        return [everything]
    spans = [
        slice(end - len(task.candidates[x]), end)
        for x, end in zip(task.languages, ends, strict=True)
        if x in (language, pivot) and task.candidates[x]
    ]
    return [everything, Pool(spans, 1)]


def _joined(parts: Sequence[Sequence[np.ndarray]]) -> BestCandidates:
    if not parts:
        return BestCandidates(np.empty((0, 1), dtype=np.int16), np.empty((0, 1), dtype=np.int16))
    pool_QK, *pair = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    return BestCandidates(pool_QK, pair[0] if pair else None)
