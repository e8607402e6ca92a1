"""Exact ranks of all relevant passages in the whole collection, counted while its shards stream by.

Q queries, P relevant passages of all queries, H embedding width.
"""

from __future__ import annotations

import numpy as np
import torch

from hybatch.errors import UserError
from hybatch.evaluation.collection import own
from hybatch.evaluation.collection.judgements import flat_relevant
from hybatch.evaluation.collection.passages import Passages
from hybatch.evaluation.collection.search import BLOCK_ROWS
from hybatch.evaluation.collection.shards import EncodedPassages
from hybatch.ops import RankCounter
from hybatch.processes import fail_together, world_size


def exact_ranks(
    queries_QH: np.ndarray,
    relevant: list[dict[int, int]],
    own_Q: np.ndarray,
    encoded: EncodedPassages,
    passages: Passages,
    *,
    device: str,
    backend: str,
) -> np.ndarray:
    """int64 [P]: the rank of every relevant passage of every query, in the order of `flat_relevant`.

    Nothing is sorted and no cutoff is made: the rank is 1 + the passages with a greater score + those with an equal
    score that stand before. Collective under torch.distributed.

    Args:
        own_Q: int64, the passage that does not count for each query, -1 where all do; none of them is relevant.

    Raises:
        UserError: a shard is damaged, or scores overflow; on every process.
    """
    numbers_P, offsets = flat_relevant(own.counted(relevant, own_Q))
    distinct_R, rows_P = np.unique(numbers_P, return_inverse=True)
    problem = None
    try:
        tensors = (queries_QH, encoded.rows(distinct_R), numbers_P, offsets, rows_P)
        queries, positives, index, starts, rows = (torch.from_numpy(array).to(device) for array in tensors)
        counter = RankCounter(queries, positives, index, starts, 1, positive_rows=rows, backend=backend)
        for first, block in encoded.blocks(BLOCK_ROWS):
            counter.add(torch.from_numpy(block), torch.zeros(len(block), dtype=torch.int32), first)
    except UserError as error:
        problem = str(error)
    except ValueError as error:
        problem = f"the embeddings cannot be ranked: {error}"
    fail_together(problem)
    if world_size() > 1:
        counter.all_reduce()
    ranks_P = counter.finish(len(passages)).rank_overall().cpu().numpy()
    return own.ranks_without(ranks_P, offsets, own_Q)
