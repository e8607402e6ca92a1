"""Candidates that are no negatives of a query because they seem to answer it as well: they score above its positive.

Whether one does must not depend on the shape of a block, on the number of processes or threads, on chunks or on the
device, or these would change the loss. A library's product does depend on them in its last bits. So scores are those of
embeddings cut to their leading bits (`fixed_point`), whose products float64 adds up exactly, in whatever order: for
H = 768 they are 21 bits relative to an embedding's largest entry, and a score is off by less than 2^-15. Of equal
embeddings every process, tile and device decides alike.

Shape suffixes: Q queries of this process, D candidates (of a block, where they come in blocks), G width of the
embeddings that decide, B bytes of a query's bits, W processes; q and d those of one tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from hybatch.errors import UserError
from hybatch.losses.inputs import ContrastiveInputs
from hybatch.losses.ring import index_in_block, passing_blocks
from hybatch.ops.contrastive import EMPTY_SLOT, pack_pairs
from hybatch.ops.ranking.fixed_point import leading_part
from hybatch.options import check_options, limits
from hybatch.processes import rank

_DEFAULT_MARGIN = 0.1
# Multiples of 8: the bits of a tile fill whole bytes.
_TILE_SIDE = {"cpu": 512}
_ACCELERATOR_TILE_SIDE = 2048


@dataclass(kw_only=True)
class FilterConfig:
    """Which candidates are kept out of a query's softmax: those that score too far above its positive."""

    by: Literal["self", "guide"] = "self"
    """Whose scores decide. self: those of the encoder that is trained, at this step; guide: those of the model
    loss.guide."""
    margin: float | None = field(default=None, metadata=limits(ge=0, le=2))
    """A candidate is kept out that scores above the positive's score plus this, in cosine similarity; by default 0.1,
    where no ratio is given."""
    ratio: float | None = field(default=None, metadata=limits(gt=0, le=10))
    """In the place of a margin: kept out is what scores above the positive's score plus a share of ratio - 1 of its
    magnitude, which is ratio times a score above 0; 0.95 begins below the positive, 1.05 above it, for every sign."""
    spare_hard_negatives: bool = True
    """Never keep out the hard negatives that the corpus lists for the query itself."""

    def __post_init__(self) -> None:
        check_options(self, "loss.filter")
        if self.margin is not None and self.ratio is not None:
            raise UserError("loss.filter has both a margin and a ratio: give one of them")

    def limit(self, positive: Tensor) -> Tensor:
        """The score above which a candidate is kept out, by the score of the positive."""
        if self.ratio is not None:
            return positive + (self.ratio - 1) * positive.abs()
        return positive + (_DEFAULT_MARGIN if self.margin is None else self.margin)


@dataclass(frozen=True)
class Judged:
    """The embeddings whose scores decide, of this process's rows.

    Attributes:
        queries_QG: float, rows of unit length.
        candidates_DG: those of `own.candidates_DH`, in the same order.
        all_candidates_DG: likewise those of all processes, as the candidates are gathered; None in a ring.
        hard_negatives: column of the first of this process's hard negatives, and the number of each query's; they
            stand query by query. None where there are none, or none are spared. In a ring, the column in its own block.
    """

    queries_QG: Tensor
    candidates_DG: Tensor
    all_candidates_DG: Tensor | None
    hard_negatives: tuple[int, int] | None


def keep_out(inputs: ContrastiveInputs, judged: Judged, rule: FilterConfig) -> tuple[ContrastiveInputs, Tensor]:
    """Leave out of the softmax, pair by pair, the candidates that `rule` takes for answers.

    Args:
        inputs: queries, and the candidates of all processes; in a ring those of this process, and the call is
            collective: the embeddings that decide go round once.

    Returns:
        The inputs with `left_out_QB`, and the number of pairs that took part without it, int64.
    """
    queries_QG = leading_part(judged.queries_QG)
    passages_QG = leading_part(judged.candidates_DG[: len(queries_QG)])
    limit_Q = rule.limit(torch.linalg.vecdot(queries_QG, passages_QG))
    pairs = _Pairs(queries_QG, limit_Q, inputs.query_groups_Q)
    spared = judged.hard_negatives
    if judged.all_candidates_DG is not None:
        bits_QB, number = pairs.above(
            judged.all_candidates_DG, inputs.candidate_groups_D, inputs.positive_index_Q, spared
        )
        return replace(inputs, left_out_QB=bits_QB), number
    of_home: dict[int, Tensor] = {}
    number = torch.zeros((), dtype=torch.int64, device=queries_QG.device)
    for home, block_DG, groups_D in passing_blocks(judged.candidates_DG, inputs.candidate_groups_D):
        index_Q = index_in_block(inputs.positive_index_Q, home)
        of_home[home], more = pairs.above(block_DG, groups_D, index_Q, spared if home == rank() else None)
        number += more
        del block_DG  # or it would live until the block after the next has arrived
    return replace(inputs, left_out_QB=torch.stack([bits for _, bits in sorted(of_home.items())])), number


class _Pairs:
    """Queries against any block of candidates."""

    def __init__(self, queries_QG: Tensor, limit_Q: Tensor, groups_Q: Tensor) -> None:
        self._queries_QG = queries_QG
        self._limit_Q = limit_Q
        self._groups_Q = groups_Q

    def above(
        self, block_DG: Tensor, groups_D: Tensor, positive_index_Q: Tensor, spared: tuple[int, int] | None
    ) -> tuple[Tensor, Tensor]:
        """The pairs above their limits, a bit each, and their number; of those that take part without this.

        Args:
            positive_index_Q: the positives' places in the block, -1 where they are in another.
            spared: first column and number of each query's hard negatives in it.
        """
        device = block_DG.device
        side = _TILE_SIDE.get(device.type, _ACCELERATOR_TILE_SIDE)
        bits_QB = torch.empty(len(self._limit_Q), -(-len(block_DG) // 8), dtype=torch.uint8, device=device)
        number = torch.zeros((), dtype=torch.int64, device=device)
        rows_Q = torch.arange(len(self._limit_Q), device=device)
        for columns in _slices(len(block_DG), side):
            candidates_dG, groups_d = leading_part(block_DG[columns]), groups_D[columns]
            places_d = torch.arange(columns.start, columns.stop, device=device)
            for rows in _slices(len(self._limit_Q), side):
                above_qd = self._queries_QG[rows] @ candidates_dG.T > self._limit_Q[rows, None]
                above_qd &= (self._groups_Q[rows, None] != groups_d) | (groups_d < 0)
                above_qd &= (groups_d != EMPTY_SLOT) & (positive_index_Q[rows, None] != places_d)
                if spared is not None:
                    first, slots = spared
                    above_qd &= (places_d - first).div(slots, rounding_mode="floor") != rows_Q[rows, None]
                number += above_qd.sum()
                bits_QB[rows, columns.start // 8 : -(-columns.stop // 8)] = pack_pairs(above_qd)
        return bits_QB, number


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
