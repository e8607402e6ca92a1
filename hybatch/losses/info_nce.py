"""InfoNCE of given queries and candidates, in the implementations that the loss can be computed with.

Shape suffixes: Q queries, D candidates, H embedding width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hybatch.ops.contrastive import EMPTY_SLOT, info_nce

InfoNCE = Callable[..., Tensor]
"""Anything with the arguments, result and gradients of `dense_info_nce`."""

Implementation = Literal["auto", "dense", "streaming"]

DENSE_LOGITS_BYTES = 2**22
"""With a matrix of float32 logits of this size, 1,024 x 1,024, the streaming implementation has caught up on a CPU."""


def dense_info_nce(
    queries_QH: Tensor,
    candidates_DH: Tensor,
    *,
    positive_index_Q: Tensor,
    query_groups_Q: Tensor,
    candidate_groups_D: Tensor,
    temperature: float,
) -> Tensor:
    """Sum over the queries of -log softmax(cosine / temperature)[positive], through a Q x D matrix of logits.

    Args:
        queries_QH: float, rows of unit length.
        candidates_DH: float, rows of unit length.
        positive_index_Q: int64, the column of each query's positive.
        query_groups_Q: int64, the passage group of each query's positive.
        candidate_groups_D: int64; `UNKNOWN_GROUP` and `EMPTY_SLOT` have the meanings stated there.
        temperature: greater than 0.

    Returns:
        float32 scalar. Logits, log-sum-exp and softmax are float32 whatever the dtype of the embeddings: logits in
        bfloat16 cost some percent of the gradient at temperatures of 0.01 to 0.02.

    A candidate of the query's own passage group (a translation or a duplicate of the positive) is no negative; only the
    positive's own column counts.
    """
    with torch.autocast(queries_QH.device.type, enabled=False):
        logits_QD = queries_QH.float() @ candidates_DH.float().T / temperature
        same_group_QD = (query_groups_Q[:, None] == candidate_groups_D) & (candidate_groups_D >= 0)
        left_out_QD = same_group_QD | (candidate_groups_D == EMPTY_SLOT)
        left_out_QD.scatter_(1, positive_index_Q[:, None], False)
        logits_QD = logits_QD.masked_fill(left_out_QD, float("-inf"))
        return F.cross_entropy(logits_QD, positive_index_Q, reduction="sum")


def streaming_info_nce(queries_QH: Tensor, candidates_DH: Tensor, **labels: Tensor | float) -> Tensor:
    """`dense_info_nce` without the matrix, by the fastest backend of `hybatch.ops.info_nce` that is there.

    Values are not checked: embeddings that are not finite make a loss that is not, for the training loop to judge.
    """
    return info_nce(queries_QH, candidates_DH, **labels, validate=False)


def auto_info_nce(queries_QH: Tensor, candidates_DH: Tensor, **labels: Tensor | float) -> Tensor:
    """Dense while the matrix of logits takes at most `DENSE_LOGITS_BYTES`, where starting the tiles costs more."""
    logits_bytes = 4 * len(queries_QH) * len(candidates_DH)
    chosen = dense_info_nce if logits_bytes <= DENSE_LOGITS_BYTES else streaming_info_nce
    return chosen(queries_QH, candidates_DH, **labels)  # type: ignore[arg-type]


IMPLEMENTATIONS: dict[Implementation, InfoNCE] = {
    "auto": auto_info_nce,
    "dense": dense_info_nce,
    "streaming": streaming_info_nce,
}
