"""How many of each query's best candidates, right or wrong, are of which language.

A float32 product of matrices rounds as its library likes, so it only says which candidates could be among the k best:
those within twice the largest possible rounding error of the k-th score. These few are scored by the ranking op, whose
scores are the same on any device and in any order; equal scores go to the earlier candidate. So the counts are exact:
those of a stable descending sort of all candidates by the scores that ranks are counted with.

Q queries, D candidates, G languages, C cutoffs, H embedding width; q the queries of a tile, N its pairs of a query and
a candidate that may be among its best, n the most that any of its queries has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from hybatch.ops.ranking.backend import ranking_ops

TOP_CUTOFFS = (10, 100)

_TILE_SCORES = 2**22
_LARGEST_TILE = 4096
# Columns a group's maximum is taken over: so few that the k best of a row seldom share a group.
_GROUPS_PER_PLACE = 8


def top_languages(
    queries_QH: Tensor, candidates_DH: Tensor, groups_D: Tensor, num_groups: int, *, backend: str
) -> Iterator[Tensor]:
    """Count the languages of the best candidates, tile by tile of the queries.

    Args:
        queries_QH, candidates_DH: float32, finite, on the device that computes.
        groups_D: int64, the language of each candidate, in [0, num_groups).
        backend: of the ranking op, as `hybatch.ops.backend.choose_backend` returned it.

    Yields:
        int64 [q, C, G], for consecutive queries: candidates of each language among the min(k, D) best, for every k of
        `TOP_CUTOFFS`.
    """
    most = min(max(TOP_CUTOFFS), len(candidates_DH))
    largest = torch.linalg.vector_norm(candidates_DH, dim=1, dtype=torch.float64).amax()
    tile = min(_LARGEST_TILE, max(1, _TILE_SCORES // len(candidates_DH)))
    for queries_qH in queries_QH.split(tile):
        offsets, candidate_N = _possible(queries_qH, candidates_DH, largest, most)
        scores_N = ranking_ops(backend).pair_scores(queries_qH, candidates_DH, offsets, "fp32", candidate_N)
        best_qK = _best(scores_N, candidate_N, offsets, most)
        yield torch.stack([_count(groups_D[best_qK[:, :k]], num_groups) for k in TOP_CUTOFFS], dim=1)


def _possible(queries_qH: Tensor, candidates_DH: Tensor, largest: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(offsets [q + 1], candidates [N] in ascending order a query): all that may be among a query's k best."""
    with _full_precision():
        scores_qD = queries_qH @ candidates_DH.T
    # Two sums of H products, each rounded in its own way, lie within 2 H u / (1 - H u) |q| |c| of each other (Higham,
    # "Accuracy and Stability of Numerical Algorithms", section 3.1); the last factor covers the denominator and norms.
    norms_q1 = torch.linalg.vector_norm(queries_qH, dim=1, keepdim=True, dtype=torch.float64)
    error_q1 = 2 * queries_qH.shape[1] * 2.0**-24 * norms_q1 * largest * 1.01
    limit_q1 = (_reached_by(scores_qD, k).double() - 2 * error_q1).to(torch.float32)
    limit_q1 = torch.nextafter(limit_q1, torch.full_like(limit_q1, -torch.inf))
    query_N, candidate_N = (scores_qD >= limit_q1).nonzero(as_tuple=True)
    counts_q = torch.bincount(query_N, minlength=len(queries_qH))
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


def _count(groups_qk: Tensor, num_groups: int) -> Tensor:
    """int64 [q, G]."""
    first_q1 = torch.arange(len(groups_qk), device=groups_qk.device)[:, None] * num_groups
    counts = torch.bincount((first_q1 + groups_qk).flatten(), minlength=len(groups_qk) * num_groups)
    return counts.view(len(groups_qk), num_groups)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products in float32 as float32, whatever a training script has allowed for speed."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)
