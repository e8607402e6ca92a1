"""Which candidates a query is compared with.

The pair of query q and candidate d takes part in the softmax of q, and in that of d, unless the candidate's slot is
empty or its passage group is the query's; the query's own positive always takes part.

Shape suffixes: q queries and d candidates of one tile.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNKNOWN_GROUP = -1
"""Passage group of a candidate that is no example's passage: it is a negative of every query."""
EMPTY_SLOT = -2
"""Passage group of a slot that holds no text: it is a candidate of no query."""


def comparable_groups(query_groups: Tensor, candidate_groups: Tensor) -> tuple[Tensor, Tensor]:
    """Replace negative groups by two numbers, so that plain equality means sharing a passage group."""
    lowest = torch.iinfo(torch.int64).min
    return (
        torch.where(query_groups < 0, lowest, query_groups),
        torch.where(candidate_groups < 0, lowest + 1, candidate_groups),
    )


def mask_logits_(
    logits_qd: Tensor, query_groups_q: Tensor, candidate_groups_d: Tensor, empty_d: Tensor, scratch_qd: Tensor
) -> None:
    """Set the logits of pairs that share a passage group, and of empty slots, to -inf; positives are no exception.

    The groups are those of `comparable_groups`; `scratch_qd` is a bool tensor to be written over.
    """
    torch.eq(query_groups_q[:, None], candidate_groups_d, out=scratch_qd)
    scratch_qd |= empty_d
    logits_qd.masked_fill_(scratch_qd, float("-inf"))
