"""Which candidates a query is compared with.

The pair of query q and candidate d takes part in the softmax of q, and in that of d, unless the candidate's slot is
empty, its passage group is the query's, or the pair is left out by a bit of its own; the query's own positive always
takes part.

Shape suffixes: Q queries, D candidates, B bytes of a query's bits, ceil(D / 8); q queries and d candidates of one tile.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

UNKNOWN_GROUP = -1
"""Passage group of a candidate that is no example's passage: it is a negative of every query."""
EMPTY_SLOT = -2
"""Passage group of a slot that holds no text: it is a candidate of no query."""


def pack_pairs(left_out_qd: Tensor) -> Tensor:
    """A bit a pair: uint8 [q, ceil(d / 8)], candidate d in bit d % 8, of value 2^(d % 8), of byte d // 8."""
    rows, columns = left_out_qd.shape
    bits = F.pad(left_out_qd, (0, -columns % 8)).view(rows, -1, 8)
    return (bits << torch.arange(8, device=bits.device)).sum(-1).to(torch.uint8)


def unpack_pairs(left_out_qB: Tensor, columns: slice) -> Tensor:
    """The pairs of some candidates, bool [q, d], as `pack_pairs` was given them; start and stop are not negative."""
    first = columns.start // 8
    bytes_qb1 = left_out_qB[:, first : -(-columns.stop // 8), None]
    bits = (bytes_qb1 >> torch.arange(8, dtype=torch.uint8, device=bytes_qb1.device)) & 1
    return bits.flatten(1)[:, columns.start - 8 * first : columns.stop - 8 * first].bool()


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
