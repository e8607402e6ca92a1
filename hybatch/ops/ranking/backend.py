"""The ranking ops of each backend behind one face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hybatch.ops.ranking import torch_backend
from hybatch.ops.ranking.best import keep_best_


@dataclass(frozen=True)
class RankingOps:
    """The ranking ops of one backend; signatures and meaning of the first two as in `torch_backend`.

    count_and_keep_: `count_above_` that also lets the candidates compete for places among the best, as `keep_best_`
        does; it takes the four tensors of `BestCandidates` after `status`.
    """

    pair_scores: Callable[..., Tensor]
    count_above_: Callable[..., None]
    count_and_keep_: Callable[..., None]


def ranking_ops(backend: str) -> RankingOps:
    """The ranking ops of a backend that `choose_backend` returned."""
    if backend == "torch":
        return _with_plain_keeping(torch_backend.pair_scores, torch_backend.count_above_)
    compiled = torch.ops.hybatch
    if backend == "cuda":
        return _with_plain_keeping(compiled.pair_scores, compiled.count_above_)
    return RankingOps(compiled.pair_scores, compiled.count_above_, compiled.count_and_keep_)


def _with_plain_keeping(pair_scores: Callable[..., Tensor], count_above_: Callable[..., None]) -> RankingOps:
    def count_and_keep_(
        greater: Tensor,
        tied_before: Tensor,
        tied_after: Tensor,
        status: Tensor,
        best_scores: Tensor,
        best_index: Tensor,
        group_scores: Tensor,
        group_index: Tensor,
        queries: Tensor,
        thresholds: Tensor,
        positive_index: Tensor,
        offsets: Tensor,
        candidates: Tensor,
        groups: Tensor,
        first_index: int,
        precision: str,
    ) -> None:
        counts = (greater, tied_before, tied_after, status)
        positives = (thresholds, positive_index, offsets)
        count_above_(*counts, queries, *positives, candidates, groups, first_index, precision)
        best = (best_scores, best_index, group_scores, group_index)
        keep_best_(*best, queries, candidates, groups, first_index, pair_scores)

    return RankingOps(pair_scores, count_above_, count_and_keep_)
