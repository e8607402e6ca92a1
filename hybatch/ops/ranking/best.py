"""The best candidates of every query, kept while blocks of candidates are counted.

Of two candidates the better one has the greater score or, where scores are equal, the smaller number. Scores are those
that ranks are counted with, so the candidate at place r is the one whose rank is r.

The compiled CPU op keeps them as it counts. For the other backends there is `keep_best_`: a float32 product of matrices
rounds as its library likes, so it only says which candidates could be among the best, those within twice the largest
possible rounding error of what is reached for sure; these few are scored by the ranking op.

Shapes: Q queries, D candidates of a block, G groups, K places, W ways that are joined, H embedding width; q the queries
of a tile, N its pairs of a query and a candidate that may be among its best, n the most that any of its queries has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from hybatch.ops.codes import values_of
from hybatch.ops.ranking.survey import below, largest_error, rounding, survey

# Scores surveyed at once, and queries at most. A CPU keeps the tile in its caches; on an accelerator every tile costs
# some dozens of launches and several waits.
_TILE_SCORES, _LARGEST_TILE = 2**22, 2**12
_ACCELERATOR_TILE_SCORES, _ACCELERATOR_LARGEST_TILE = 2**27, 2**14
# Columns a maximum is taken over: so few that the K best of a row seldom share one.
_COLUMNS_PER_PLACE = 8
_QUERIES_PER_MESSAGE = 2**14
_NO_INDEX = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class BestCandidates:
    """Of every query the K best candidates, and the best one of each group; -1 and -infinity where there are fewer.

    Scores are float32, of the torch backend float64.
    """

    scores: Tensor
    """[Q, K]"""
    index: Tensor
    """[Q, K] int64: candidate numbers."""
    group_scores: Tensor
    """[Q, G]"""
    group_index: Tensor
    """[Q, G] int64"""

    @staticmethod
    def none_yet(num_queries: int, places: int, num_groups: int, scores_like: Tensor) -> BestCandidates:
        """Empty places, for scores of the dtype and on the device of `scores_like`."""

        def empty(width: int) -> tuple[Tensor, Tensor]:
            scores = scores_like.new_full((num_queries, width), -torch.inf)
            return scores, torch.full_like(scores, -1, dtype=torch.int64)

        return BestCandidates(*empty(places), *empty(num_groups))

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `count_and_keep_` takes them."""
        return self.scores, self.index, self.group_scores, self.group_index

    def in_order(self) -> BestCandidates:
        """The places best first."""
        return BestCandidates(*_best_of(self.scores, self.index, self.scores.size(1)), *self.tensors()[2:])

    def joined(self, others: Sequence[BestCandidates]) -> BestCandidates:
        """The best of all, each of which has met other candidates."""
        ways = [self, *others]
        scores, index = (torch.cat([way.tensors()[i].to(self.scores.device) for way in ways], dim=1) for i in (0, 1))
        scores_QGW, index_QGW = (
            torch.stack([way.tensors()[i].to(self.scores.device) for way in ways], dim=2) for i in (2, 3)
        )
        of_group = (one.squeeze(2) for one in _best_of(scores_QGW, index_QGW, 1))
        return BestCandidates(*_best_of(scores, index, self.scores.size(1)), *of_group)

    def over_processes(self, group: dist.ProcessGroup | None) -> BestCandidates:
        """The best of all processes, each of which has met other candidates; collective."""
        parts = []
        for own in zip(*(tensor.split(_QUERIES_PER_MESSAGE) for tensor in self.tensors()), strict=True):
            received = [[torch.empty_like(tensor) for tensor in own] for _ in range(dist.get_world_size(group))]
            for number, tensor in enumerate(own):
                dist.all_gather([theirs[number] for theirs in received], tensor.contiguous(), group=group)
            first, *others = (BestCandidates(*theirs) for theirs in received)
            parts.append(first.joined(others).tensors())
        return BestCandidates(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))


def keep_best_(
    best_scores: Tensor,
    best_index: Tensor,
    group_scores: Tensor,
    group_index: Tensor,
    queries: Tensor,
    candidates: Tensor,
    groups: Tensor,
    first_index: int,
    pair_scores: Callable[..., Tensor],
) -> None:
    """Let the candidates of one block compete for the places; row r of the block is candidate first_index + r.

    A candidate whose group is outside [0, G) is not kept. Reads back from the device. Where an embedding is not finite,
    or a score overflows, what is kept means nothing.

    Args:
        best_scores, best_index, group_scores, group_index: the fields of `BestCandidates`, changed in place.
        queries: [Q, H], float32, bfloat16 or float16, or codes.
        candidates: [D, H], same dtype.
        groups: [D] int32.
        pair_scores: of the backend.
    """
    order_D, bounds = _by_group(groups, group_scores.size(1))
    if len(order_D) == 0:
        return
    candidates_DH = values_of(candidates[order_D]).float()
    tile = _tile_of_queries(queries.device, len(order_D))
    everything = (queries, best_scores, best_index, group_scores, group_index)
    for queries_qH, *kept in zip(*(tensor.split(tile) for tensor in everything), strict=True):
        best = BestCandidates(*kept)
        wanted_qD = _wanted(values_of(queries_qH).float(), candidates_DH, bounds, best)
        query_N, column_N = wanted_qD.nonzero(as_tuple=True)
        counts_q = wanted_qD.sum(dim=1)
        offsets = torch.cat([counts_q.new_zeros(1), counts_q.cumsum(0)])
        row_N = order_D[column_N]
        scores_N = pair_scores(queries_qH, candidates, offsets, "fp32", row_N)
        _keep_places(best, scores_N, row_N + first_index, query_N, offsets)
        _keep_groups(best, scores_N, row_N + first_index, query_N, groups[row_N].long())


def _tile_of_queries(device: torch.device, num_candidates: int) -> int:
    on_cpu = device.type == "cpu"
    scores, largest = (_TILE_SCORES, _LARGEST_TILE) if on_cpu else (_ACCELERATOR_TILE_SCORES, _ACCELERATOR_LARGEST_TILE)
    return min(largest, max(1, scores // num_candidates))


def _by_group(groups_D: Tensor, num_groups: int) -> tuple[Tensor, list[int]]:
    """The block's rows group by group, and where in this order each group begins; the last entry is their number."""
    inside_D = ((groups_D >= 0) & (groups_D < num_groups)).nonzero().squeeze(1)
    order_D = inside_D[groups_D[inside_D].argsort(stable=True)]
    sizes_G = torch.bincount(groups_D[order_D], minlength=num_groups)
    return order_D, [0, *sizes_G.cumsum(0).tolist()]


def _wanted(queries_qH: Tensor, candidates_DH: Tensor, bounds: Sequence[int], best: BestCandidates) -> Tensor:
    """bool [q, D]: the candidates that may be among the best; in the order of the groups."""
    scores_qD = survey(queries_qH, candidates_DH)
    error_q1 = _rounding_error(queries_qH, candidates_DH)
    places = best.scores.size(1)
    reached_q1 = best.scores.amin(dim=1, keepdim=True).double()
    if len(candidates_DH) >= places:
        reached_q1 = torch.maximum(reached_q1, _reached_by(scores_qD, places))
    wanted_qD = scores_qD >= _limit(reached_q1, error_q1, scores_qD.dtype)
    for group, (first, end) in enumerate(itertools.pairwise(bounds)):
        if first < end:
            of_group_qd = scores_qD[:, first:end]
            known_q1 = best.group_scores[:, group, None].double()
            reached_q1 = torch.maximum(of_group_qd.amax(dim=1, keepdim=True), known_q1)
            wanted_qD[:, first:end] |= of_group_qd >= _limit(reached_q1, error_q1, scores_qD.dtype)
    return wanted_qD


def _rounding_error(queries_qH: Tensor, candidates_DH: Tensor) -> Tensor:
    """float64 [q, 1]: by how much a surveyed score can miss the score of the op, which may be a float32 sum itself."""
    each = rounding(queries_qH.shape[1], torch.float32)
    return 2 * largest_error(queries_qH, candidates_DH, each)[:, None]


def _limit(reached_q1: Tensor, error_q1: Tensor, dtype: torch.dtype) -> Tensor:
    """[q, 1]: what an entry must reach, for its candidate's score to be able to reach `reached_q1`."""
    return below(reached_q1 - 2 * error_q1, dtype)


def _reached_by(scores_qD: Tensor, k: int) -> Tensor:
    """[q, 1]: a score that at least k candidates of the row reach, hardly less than the k-th best.

    The k-th best of the maxima over stretches of columns, which takes far less sorting than the k-th best of all.
    """
    depth = max(1, scores_qD.shape[1] // (_COLUMNS_PER_PLACE * k))
    width = scores_qD.shape[1] // depth
    maxima_qW = scores_qD[:, : depth * width].unflatten(1, (depth, width)).amax(dim=1)
    return maxima_qW.topk(k, dim=1).values[:, -1:]


def _keep_places(best: BestCandidates, scores_N: Tensor, index_N: Tensor, query_N: Tensor, offsets: Tensor) -> None:
    place_N = torch.arange(len(query_N), device=offsets.device) - offsets[query_N]
    padded = (len(best.scores), int(offsets.diff().max()))
    scores_qn = scores_N.new_full(padded, -torch.inf)
    index_qn = index_N.new_full(padded, -1)
    scores_qn[query_N, place_N] = scores_N
    index_qn[query_N, place_N] = index_N
    scores, index = torch.cat([best.scores, scores_qn], dim=1), torch.cat([best.index, index_qn], dim=1)
    for kept, found in zip((best.scores, best.index), _best_of(scores, index, best.scores.size(1)), strict=True):
        kept.copy_(found)


def _keep_groups(best: BestCandidates, scores_N: Tensor, index_N: Tensor, query_N: Tensor, group_N: Tensor) -> None:
    cell_N = query_N * best.group_scores.size(1) + group_N
    before = best.group_scores.flatten()
    after = before.scatter_reduce(0, cell_N, scores_N, "amax")
    kept_index = torch.where(before == after, best.group_index.flatten(), _NO_INDEX)
    index = kept_index.masked_fill(kept_index < 0, _NO_INDEX)
    index = index.scatter_reduce(0, cell_N, torch.where(scores_N == after[cell_N], index_N, _NO_INDEX), "amin")
    best.group_scores.copy_(after.view_as(best.group_scores))
    best.group_index.copy_(index.masked_fill(index == _NO_INDEX, -1).view_as(best.group_index))


def _best_of(scores: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(scores, index) of the k best along the last dimension, best first."""
    by_index = index.argsort(dim=-1, stable=True)
    scores, index = scores.gather(-1, by_index), index.gather(-1, by_index)
    scores, by_score = scores.sort(dim=-1, descending=True, stable=True)
    return scores[..., :k].contiguous(), index.gather(-1, by_score[..., :k])
