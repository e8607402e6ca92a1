"""Of which languages each query's best candidates are, right or wrong, in the order of their ranks.

A float32 product of matrices rounds as its library likes, so it only says which candidates could be among the k best:
those within twice the largest possible rounding error of the k-th score. These few are scored by the ranking op, whose
scores are the same on any device and in any order; equal scores go to the earlier candidate. So what is found is exact:
that of a stable descending sort of all candidates by the scores that ranks are counted with.

Q queries, D candidates, G languages, C cutoffs, K the most places looked at, H embedding width; q the queries of a
tile, N its pairs of a query and a candidate that may be among its best, n the most that any of its queries has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hybatch.ops.ranking.backend import ranking_ops

TOP_CUTOFFS = (10, 100)

_TILE_SCORES = 2**22
_LARGEST_TILE = 4096
# Columns a group's maximum is taken over: so few that the k best of a row seldom share a group.
_GROUPS_PER_PLACE = 8


@dataclass(frozen=True)
class Pool:
    """Candidates of which the best are wanted.

    spans: the stretches of the candidates' numbers that it is made of, ascending, none empty.
    places: how many of the best; all candidates of a pool that has fewer.
    """

    spans: Sequence[slice]
    places: int


def best_languages(
    queries_QH: Tensor, candidates_DH: Tensor, groups_D: Tensor, pools: Sequence[Pool], *, backend: str
) -> Iterator[list[np.ndarray]]:
    """Find the languages of the best candidates of every pool, tile by tile of the queries.

    All pools share one product of matrices.

    Args:
        queries_QH, candidates_DH: float32, finite, on the device that computes.
        groups_D: int64, the language of each candidate, from 0.
        backend: of the ranking op, as `hybatch.ops.backend.choose_backend` returned it.

    Yields:
        for consecutive queries, of every pool: int16 [q, k], best first.
    """
    largest = torch.linalg.vector_norm(candidates_DH, dim=1, dtype=torch.float64).amax()
    tile = min(_LARGEST_TILE, max(1, _TILE_SCORES // len(candidates_DH)))
    pair_scores = ranking_ops(backend).pair_scores
    for queries_qH in queries_QH.split(tile):
        with _full_precision():
            scores_qD = queries_qH @ candidates_DH.T
        error_q1 = _rounding_error(queries_qH, largest)
        found = []
        for pool in pools:
            k = min(pool.places, sum(span.stop - span.start for span in pool.spans))
            offsets, candidate_N = _possible(scores_qD, error_q1, pool.spans, k)
            scores_N = pair_scores(queries_qH, candidates_DH, offsets, "fp32", candidate_N)
            best_qk = _best(scores_N, candidate_N, offsets, k)
            found.append(groups_D[best_qk].to(torch.int16).cpu().numpy())
        yield found


def language_counts(languages_QK: np.ndarray, num_groups: int) -> np.ndarray:
    """int64 [C, G]: over all queries, candidates of each language among the min(k, K) best, for k of `TOP_CUTOFFS`."""
    return np.stack([np.bincount(languages_QK[:, :k].ravel(), minlength=num_groups) for k in TOP_CUTOFFS])


def _rounding_error(queries_qH: Tensor, largest: Tensor) -> Tensor:
    """float64 [q, 1]: by how much a float32 score can miss another float32 score of the same pair."""
    # Two sums of H products, each rounded in its own way, lie within 2 H u / (1 - H u) |q| |c| of each other (Higham,
    # "Accuracy and Stability of Numerical Algorithms", section 3.1); the last factor covers the denominator and norms.
    norms_q1 = torch.linalg.vector_norm(queries_qH, dim=1, keepdim=True, dtype=torch.float64)
    return 2 * queries_qH.shape[1] * 2.0**-24 * norms_q1 * largest * 1.01


def _possible(scores_qD: Tensor, error_q1: Tensor, spans: Sequence[slice], k: int) -> tuple[Tensor, Tensor]:
    """(offsets [q + 1], candidates [N] in ascending order a query): all that may be among the k best of the spans."""
    parts = [scores_qD[:, span] for span in spans]
    # What k candidates of one span reach, at least k of all spans do.
    reached = [_reached_by(part, k) for part in parts if part.shape[1] >= k]
    reached_q1 = torch.stack(reached).amax(dim=0) if reached else torch.full_like(scores_qD[:, :1], -torch.inf)
    limit_q1 = (reached_q1.double() - 2 * error_q1).to(torch.float32)
    limit_q1 = torch.nextafter(limit_q1, torch.full_like(limit_q1, -torch.inf))
    places = [(part >= limit_q1).nonzero(as_tuple=True) for part in parts]
    query_N = torch.cat([query for query, _ in places])
    candidate_N = torch.cat([column + span.start for (_, column), span in zip(places, spans, strict=True)])
    if len(spans) > 1:
        query_N, order_N = query_N.sort(stable=True)
        candidate_N = candidate_N[order_N]
    counts_q = torch.bincount(query_N, minlength=len(scores_qD))
    return torch.cat([counts_q.new_zeros(1), counts_q.cumsum(0)]), candidate_N


def _reached_by(scores_qD: Tensor, k: int) -> Tensor:
    """[q, 1]: a score that at least k candidates of the row reach, hardly less than the k-th best.

    The k-th best of the maxima over groups of columns, which takes far less sorting than the k-th best of all.
    """
    depth = max(1, scores_qD.shape[1] // (_GROUPS_PER_PLACE * k))
    width = scores_qD.shape[1] // depth
    maxima_qW = scores_qD[:, : depth * width].unflatten(1, (depth, width)).amax(dim=1)
    return maxima_qW.topk(k, dim=1).values[:, -1:]


def _best(scores_N: Tensor, candidate_N: Tensor, offsets: Tensor, k: int) -> Tensor:
    """[q, k]: each query's k best candidates, best first, the earlier one first where scores are equal."""
    counts_q = offsets.diff()
    query_N = torch.repeat_interleave(torch.arange(len(counts_q), device=offsets.device), counts_q)
    place_N = torch.arange(len(query_N), device=offsets.device) - offsets[query_N]
    padded_qn = scores_N.new_full((len(counts_q), int(counts_q.max())), -torch.inf)
    padded_qn[query_N, place_N] = scores_N
    order_qk = padded_qn.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return candidate_N[offsets[:-1, None] + order_qk]


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products in float32 as float32, whatever a training script has allowed for speed."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)
