"""Ranking problems, and their answer by sorting: numpy float64, the whole score matrix, a stable argsort.

Q queries, D candidates, P positives, G groups, H embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hybatch.ops import RankCounter, RankCounts, rank_counts
from tests.ops.conftest import Place


@dataclass(frozen=True)
class Case:
    queries: Tensor
    candidates: Tensor
    groups: Tensor
    positives: Tensor
    offsets: Tensor
    num_groups: int

    @property
    def owners(self) -> np.ndarray:
        """[P]: query of each positive."""
        return np.repeat(np.arange(len(self.queries)), np.diff(self.offsets.numpy()))

    def count(self, place: Place, **options: object) -> RankCounts:
        tensors = (self.queries, self.candidates, self.groups, self.positives, self.offsets)
        moved = (tensor.to(place.device) for tensor in tensors)
        return rank_counts(*moved, self.num_groups, backend=place.backend, **options)

    def counter(self, place: Place, **options: object) -> RankCounter:
        tensors = (self.queries, self.candidates[self.positives], self.positives, self.offsets)
        moved = (tensor.to(place.device) for tensor in tensors)
        return RankCounter(*moved, self.num_groups, backend=place.backend, **options)


def random_case(
    seed: int,
    *,
    queries: int,
    candidates: int,
    width: int,
    groups: int,
    integers: bool,
    largest: int = 2,
    most_positives: int = 4,
    contiguous: bool = False,
) -> Case:
    """Integer-valued embeddings are exact in every arithmetic and tie massively; the others are unit vectors."""
    generator = np.random.default_rng(seed)

    def rows(count: int) -> Tensor:
        if integers:
            return torch.from_numpy(generator.integers(-largest, largest + 1, (count, width)).astype(np.float32))
        values = generator.standard_normal((count, width))
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        return torch.from_numpy((values / np.where(norms == 0, 1, norms)).astype(np.float32))

    owned = generator.integers(0, most_positives + 1, queries) if candidates else np.zeros(queries, dtype=np.int64)
    positives = generator.integers(0, max(1, candidates), owned.sum())
    group_of = generator.integers(0, max(1, groups), candidates)
    return Case(
        rows(queries),
        rows(candidates),
        torch.from_numpy(np.sort(group_of) if contiguous else group_of),
        torch.from_numpy(positives),
        torch.from_numpy(np.concatenate([[0], np.cumsum(owned)])),
        max(1, groups),
    )


def counts_by_sorting(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rank in each group [P, G], rank overall [P], other candidates tied overall [P])."""
    scores_QD = case.queries.double().numpy() @ case.candidates.double().numpy().T
    positives_P, groups_D = case.positives.numpy(), case.groups.numpy()
    scores_PD = scores_QD[case.owners]
    order_PD = np.argsort(-scores_PD, axis=1, kind="stable")
    is_self_PD = order_PD == positives_P[:, None]
    overall_P = is_self_PD.argmax(axis=1) + 1 if len(positives_P) else np.zeros(0, dtype=np.int64)
    above_PD = np.cumsum(is_self_PD, axis=1) == 0
    in_group_PG = np.stack(
        [1 + (above_PD & (groups_D[order_PD] == group)).sum(axis=1) for group in range(case.num_groups)], axis=1
    )
    own_P = np.take_along_axis(scores_PD, positives_P[:, None], axis=1) if len(positives_P) else scores_PD
    tied_P = (scores_PD == own_P).sum(axis=1) - 1 if len(positives_P) else np.zeros(0, dtype=np.int64)
    return in_group_PG, overall_P, tied_P


def assert_counts_equal(left: RankCounts, right: RankCounts) -> None:
    for name in ("greater", "tied_before", "tied_after"):
        assert torch.equal(getattr(left, name), getattr(right, name)), name


def assert_ranks_as_by_sorting(counts: RankCounts, case: Case) -> None:
    in_group_PG, overall_P, tied_P = counts_by_sorting(case)
    for group in range(case.num_groups):
        np.testing.assert_array_equal(counts.rank_in_group(group).cpu().numpy(), in_group_PG[:, group])
    np.testing.assert_array_equal(counts.rank_overall().cpu().numpy(), overall_P)
    np.testing.assert_array_equal(counts.tied_overall().cpu().numpy(), tied_P)
