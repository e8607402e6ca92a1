"""The two ranking ops in plain PyTorch: runs wherever torch has float64, and states what the compiled ops compute.

Both functions have the signatures of the dispatcher ops `hybatch::pair_scores` and `hybatch::count_above_` and differ
from them in one thing: scores are float64 (`fixed_point`), so thresholds are float64 too. `precision` is not looked at:
the caller has rounded the inputs to it, and sums are never rounded to fewer bits than float32 has.

Work goes in tiles of queries by candidates; nothing of size Q x D is ever held. A tile reads back how many scores
reach their row's lowest threshold, so on an accelerator these functions synchronise.

Shapes: Q queries, D candidates of the block, P positives, G groups, H embedding width; q, d, p, g the same in one tile;
S the scores of a tile that reach their query's lowest threshold, or those of them that a function is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hybatch.ops.ranking.fixed_point import SplitRows, score_all, score_pairs, split_rows, truncation
from hybatch.ops.ranking.survey import below, largest_error, rounding, survey

SELF_HITS, BAD_QUERIES, BAD_CANDIDATES, OVERFLOWS = range(4)
STATUS_SIZE = 4

_OVERFLOW_NORM = 2.0**126
# Rows are cut in two parts, of float64 each; to do it again for every tile would take as long as a product.
_SPLIT_BYTES = 2**27
_BYTES_PER_SPLIT_VALUE = 16
_PAIRS_PER_CHUNK = 512
# Above one close score in this many of a tile, computing all of the tile in full is faster.
_TILE_PER_CLOSE_SCORES = 64
# (queries, candidates) of a tile: on a CPU so many that threads can share what is picked from the scores, on an
# accelerator the tile hides the cost of launching.
_CPU_TILE = (1024, 2048)
_ACCELERATOR_TILE = (1024, 8192)


def pair_scores(
    queries: Tensor,
    positive_embeddings: Tensor,
    offsets: Tensor,
    precision: str,
    positive_rows: Tensor | None = None,
) -> Tensor:
    """Score each positive with the query that owns it: the thresholds of `count_above_`.

    Args:
        queries: [Q, H], float32, bfloat16 or float16.
        positive_embeddings: [P, H], same dtype; with `positive_rows` any number of rows.
        offsets: [Q + 1] int64; query i owns the positives offsets[i] .. offsets[i + 1] - 1.
        precision: not looked at, see above.
        positive_rows: [P] int64, the row of `positive_embeddings` that each positive is; by default its own.

    Returns:
        [P] float64 (the compiled ops: float32). Not finite where the query or the positive is not.
    """
    num_positives = len(positive_embeddings if positive_rows is None else positive_rows)
    owner_P = _owners(offsets, num_positives)
    thresholds_P = torch.zeros(num_positives, dtype=torch.float64, device=queries.device)
    split_once = None
    if positive_rows is not None and len(positive_embeddings) <= min(num_positives, _split_at_once(queries)):
        split_once = split_rows(positive_embeddings)
    for start in range(0, num_positives, _PAIRS_PER_CHUNK):
        chunk = slice(start, start + _PAIRS_PER_CHUNK)
        if positive_rows is None:
            positives = split_rows(positive_embeddings[chunk])
        elif split_once is None:
            positives = split_rows(positive_embeddings[positive_rows[chunk]])
        else:
            positives = split_once.take(positive_rows[chunk])
        owners, query_of_pair = owner_P[chunk].unique_consecutive(return_inverse=True)
        thresholds_P[chunk] = score_pairs(split_rows(queries[owners]).take(query_of_pair), positives)
    return thresholds_P


def count_above_(
    greater: Tensor,
    tied_before: Tensor,
    tied_after: Tensor,
    status: Tensor,
    queries: Tensor,
    thresholds: Tensor,
    positive_index: Tensor,
    offsets: Tensor,
    candidates: Tensor,
    groups: Tensor,
    first_index: int,
    precision: str,
) -> None:
    """Add to the counts what one block of candidates contributes; row r of the block is candidate first_index + r.

    For each query, each of its positives p and each candidate j of the block other than p itself
    (j != positive_index[p]), with s the score of j and t = thresholds[p]: s > t adds one to greater[p, group of j];
    s == t adds one to tied_before[p, group of j] where j < positive_index[p], else to tied_after. Other positives of
    the query are candidates like any other. A candidate whose group is outside [0, G) is not counted.

    status[0] grows by the positives that stand in the block and score exactly their threshold there; status[1] and
    status[2] by the values of `queries` and `candidates` that are NaN or infinite; status[3] by one if the largest
    norms of the finite rows multiply to 2^126 or more, where a float32 score might overflow. The counts mean
    something only while status[1:] is zero.

    Args:
        greater, tied_before, tied_after: [P, G] int32, added to.
        status: [4] int64, added to.
        queries: [Q, H], float32, bfloat16 or float16.
        thresholds: [P] float64, what `pair_scores` returned.
        positive_index: [P] int64, candidate index of each positive; it need not lie in this block.
        offsets: [Q + 1] int64, as for `pair_scores`.
        candidates: [D, H], same dtype as queries.
        groups: [D] int32.
        first_index: index of the block's first candidate.
        precision: not looked at, see above.
    """
    _check_values(status, queries, candidates)
    if len(thresholds) == 0 or len(candidates) == 0:
        return
    ladders = _sort_thresholds(thresholds, offsets)
    bounds = offsets.tolist()
    tile_q, tile_d = _CPU_TILE if queries.device.type == "cpu" else _ACCELERATOR_TILE
    tiles = [slice(q, min(q + tile_q, len(queries))) for q in range(0, len(queries), tile_q)]
    tiles = [tile for tile in tiles if bounds[tile.start] < bounds[tile.stop]]
    at_once = max(1, _split_at_once(queries) // tile_q)
    for first in range(0, len(tiles), at_once):
        query_rows = [
            (tile, _Rows(queries[tile], split_rows(queries[tile]))) for tile in tiles[first : first + at_once]
        ]
        for d in range(0, len(candidates), tile_d):
            candidates_dH = candidates[d : d + tile_d]
            candidate_rows = _Rows(candidates_dH, split_rows(candidates_dH))
            columns = _group_columns(groups[d : d + tile_d], greater.size(1))
            for tile, rows in query_rows:
                reached = _reached(rows, candidate_rows, ladders, tile.start)
                _add_greater(greater, reached, ladders, columns, tile)
                _add_ties(tied_before, tied_after, status, reached, ladders, columns, positive_index, first_index + d)


def _split_at_once(rows_NH: Tensor) -> int:
    """Rows of this width that are held in two parts at the same time."""
    return _SPLIT_BYTES // (_BYTES_PER_SPLIT_VALUE * max(1, rows_NH.size(1)))


def _check_values(status: Tensor, queries: Tensor, candidates: Tensor) -> None:
    finite_queries, finite_candidates = queries.isfinite(), candidates.isfinite()
    status[BAD_QUERIES] += queries.numel() - finite_queries.sum()
    status[BAD_CANDIDATES] += candidates.numel() - finite_candidates.sum()
    if queries.numel() and candidates.numel():
        bound = _largest_norm(queries, finite_queries) * _largest_norm(candidates, finite_candidates)
        status[OVERFLOWS] += bound >= _OVERFLOW_NORM


def _largest_norm(rows_NH: Tensor, finite_NH: Tensor) -> Tensor:
    norms_N = torch.linalg.vector_norm(rows_NH, dim=1, dtype=torch.float64)
    return norms_N.masked_fill(~finite_NH.all(1), 0.0).amax()


def _owners(offsets: Tensor, num_positives: int) -> Tensor:
    """Query of each positive, [P] int64."""
    queries_Q = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(queries_Q, offsets.diff(), output_size=num_positives)


@dataclass(frozen=True)
class _Ladders:
    """Each query's thresholds in ascending order: values[start[i] : start[i] + length[i]] for query i."""

    values: Tensor  # [P] float64
    order: Tensor  # [P] int64, positive that stands at each place of `values`
    start: Tensor  # [Q] int64
    length: Tensor  # [Q] int64
    longest: int

    def at(self, places: Tensor) -> Tensor:
        """Thresholds at places of `values`; anything for a place past the end."""
        return self.values[places.clamp(max=len(self.values) - 1)]

    def number_below(self, query_S: Tensor, score_S: Tensor) -> Tensor:
        """Thresholds of each query that are smaller than the score, by binary search."""
        start_S, length_S = self.start[query_S], self.length[query_S]
        below_S = torch.zeros_like(query_S)
        for step in (1 << k for k in reversed(range(self.longest.bit_length()))):
            probe_S = below_S + step
            below_S += ((probe_S <= length_S) & (self.at(start_S + probe_S - 1) < score_S)) * step
        return below_S


def _sort_thresholds(thresholds_P: Tensor, offsets: Tensor) -> _Ladders:
    by_value_P = thresholds_P.argsort(stable=True)
    order_P = by_value_P[_owners(offsets, len(thresholds_P))[by_value_P].argsort(stable=True)]
    length_Q = offsets.diff()
    return _Ladders(thresholds_P[order_P], order_P, offsets[:-1], length_Q, int(length_Q.max()))


@dataclass(frozen=True)
class _Columns:
    """The groups of a tile's candidates, as columns first .. first + width - 1 of the counts."""

    local_d: Tensor  # [d] int64 in [0, width]; width stands for a group outside [0, G)
    first: int
    width: int


def _group_columns(groups_d: Tensor, num_groups: int) -> _Columns:
    valid_d = (groups_d >= 0) & (groups_d < num_groups)
    first = int(torch.where(valid_d, groups_d, num_groups).min())
    width = max(0, int(torch.where(valid_d, groups_d, -1).max()) + 1 - first)
    return _Columns(torch.where(valid_d, groups_d.to(torch.int64) - first, width), first, width)


@dataclass(frozen=True)
class _Rows:
    """Embeddings of a tile, as they are and cut in two parts."""

    whole: Tensor
    split: SplitRows


@dataclass(frozen=True)
class _Reached:
    """The scores of a tile that reach the lowest threshold of their query; all others count for no positive."""

    query_S: Tensor  # int64, row in the whole of `queries`
    candidate_S: Tensor  # int64, row in the tile
    below_S: Tensor  # int64, number of the query's thresholds that are smaller than the score
    close: Tensor  # int64, those of the S whose score may equal a threshold
    close_scores: Tensor  # float64, the scores of these


def _reached(queries: _Rows, candidates: _Rows, ladders: _Ladders, first_query: int) -> _Reached:
    """One product settles all scores but those within its error of a threshold, which are then computed in full."""
    survey_qd = survey(queries.whole, candidates.whole)
    width = queries.whole.size(1)
    relative = rounding(width, survey_qd.dtype) + truncation(width)
    error_q = largest_error(queries.whole, candidates.whole, relative)
    window = slice(first_query, first_query + len(survey_qd))
    lowest_q = ladders.at(ladders.start[window]).masked_fill(ladders.length[window] == 0, torch.inf)
    limit_q = below(lowest_q - error_q, survey_qd.dtype)
    flat_S = (survey_qd >= limit_q[:, None]).flatten().nonzero().squeeze(1)
    row_S = flat_S // survey_qd.size(1)
    query_S, candidate_S = row_S + first_query, flat_S - row_S * survey_qd.size(1)
    survey_S, error_S = survey_qd.flatten()[flat_S].double(), error_q[row_S]
    below_S = ladders.number_below(query_S, survey_S - error_S)
    next_S = ladders.at(ladders.start[query_S] + below_S)
    close = ((below_S < ladders.length[query_S]) & (next_S <= survey_S + error_S)).nonzero().squeeze(1)
    if len(close) * _TILE_PER_CLOSE_SCORES > survey_qd.numel():
        scores = score_all(queries.split, candidates.split).flatten()[flat_S[close]]
    else:
        scores = _score_some(queries.split, candidates.split, row_S[close], candidate_S[close])
    below_S[close] = ladders.number_below(query_S[close], scores)
    return _Reached(query_S, candidate_S, below_S, close, scores)


def _score_some(queries: SplitRows, candidates: SplitRows, query_P: Tensor, candidate_P: Tensor) -> Tensor:
    scores_P = torch.empty(len(query_P), dtype=torch.float64, device=query_P.device)
    for start in range(0, len(scores_P), _PAIRS_PER_CHUNK):
        chunk = slice(start, start + _PAIRS_PER_CHUNK)
        scores_P[chunk] = score_pairs(queries.take(query_P[chunk]), candidates.take(candidate_P[chunk]))
    return scores_P


def _add_greater(greater: Tensor, reached: _Reached, ladders: _Ladders, columns: _Columns, tile: slice) -> None:
    """A score above n thresholds is above the n lowest: a histogram of n, then a sum from the top of each ladder.

    `tile` says which queries. A ladder of k thresholds has k + 1 slots in the histogram, one for each n.
    """
    length_q = ladders.length[tile]
    end_q = length_q.cumsum(0)
    num_queries, num_positives = len(length_q), int(end_q[-1])
    start, query_q = ladders.start[tile.start], torch.arange(num_queries, device=greater.device)
    slot_S = ladders.start[reached.query_S] - start + reached.query_S - tile.start + reached.below_S
    stride = columns.width + 1
    num_slots = num_positives + num_queries
    histogram = torch.bincount(slot_S * stride + columns.local_d[reached.candidate_S], minlength=num_slots * stride)
    from_top = histogram.view(num_slots, stride)[:, : columns.width].flip(0).cumsum(0).flip(0)
    from_top = torch.cat([from_top, from_top.new_zeros(1, columns.width)])
    query_p = torch.repeat_interleave(query_q, length_q, output_size=num_positives)
    next_slot_p = torch.arange(1, num_positives + 1, device=greater.device) + query_p
    counts_pg = from_top[next_slot_p] - from_top[(end_q + query_q + 1)[query_p]]
    positive_p = ladders.order[start : start + num_positives]
    greater[:, columns.first : columns.first + columns.width].index_add_(0, positive_p, counts_pg.to(torch.int32))


def _add_ties(
    tied_before: Tensor,
    tied_after: Tensor,
    status: Tensor,
    reached: _Reached,
    ladders: _Ladders,
    columns: _Columns,
    positive_index: Tensor,
    first_index: int,
) -> None:
    """Thresholds equal to a score follow the smaller ones on its ladder: walk up until none is left."""
    query_S, candidate_S = reached.query_S[reached.close], reached.candidate_S[reached.close]
    place_S = ladders.start[query_S] + reached.below_S[reached.close]
    end_S = ladders.start[query_S] + ladders.length[query_S]
    score_S = reached.close_scores
    while len(place_S):
        value_S = ladders.at(place_S)
        tied = ((place_S < end_S) & (value_S == score_S)).nonzero().squeeze(1)
        place_S, end_S, score_S, candidate_S = place_S[tied], end_S[tied], score_S[tied], candidate_S[tied]
        positive_S = ladders.order[place_S]
        distance_S = candidate_S + first_index - positive_index[positive_S]
        status[SELF_HITS] += (distance_S == 0).sum()
        column_S = columns.local_d[candidate_S]
        counted_S = column_S < columns.width
        for counts, side_S in ((tied_before, distance_S < 0), (tied_after, distance_S > 0)):
            chosen = (side_S & counted_S).nonzero().squeeze(1)
            cells = positive_S[chosen] * counts.size(1) + columns.first + column_S[chosen]
            counts.view(-1).index_add_(0, cells, torch.ones_like(cells, dtype=torch.int32))
        place_S = place_S + 1
