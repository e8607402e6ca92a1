"""Contrastive problems of any shape, and what the ops must give for them, computed densely in float64.

Shape suffixes: Q queries, D candidates, H embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

EPSILON = 2.0**-24
"""Half the distance from 1 to the next float32."""


@dataclass(frozen=True)
class Problem:
    queries: Tensor  # [Q, H]
    candidates: Tensor  # [D, H]
    positive_index: Tensor  # [Q] int64
    query_groups: Tensor  # [Q] int64
    candidate_groups: Tensor  # [D] int64
    temperature: float
    left_out: Tensor | None = None  # [Q, D] bool

    @property
    def bits(self) -> Tensor | None:
        """`left_out` as the ops take it."""
        if self.left_out is None:
            return None
        packed = np.packbits(self.left_out.cpu().numpy(), axis=1, bitorder="little")
        return torch.from_numpy(packed).to(self.queries.device)

    def labels(self) -> dict[str, Tensor]:
        """As the public functions name them."""
        return {
            "positive_index_Q": self.positive_index,
            "query_groups_Q": self.query_groups,
            "candidate_groups_D": self.candidate_groups,
        }

    def pairs(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
        """As the ops take them."""
        scale = torch.tensor(1.0 / self.temperature, dtype=dtype, device=self.queries.device)
        return self.queries, self.candidates, self.positive_index, self.query_groups, self.candidate_groups, scale


def make_problem(
    seed: int,
    num_queries: int,
    num_candidates: int,
    width: int,
    *,
    num_groups: int = 50,
    peak: float = 20.0,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    share_left_out: float | None = None,
) -> Problem:
    """Random rows whose logits reach about +-peak; groups from -2, an empty slot, to num_groups - 1; with
    `share_left_out` that share of the pairs, positives among them, is left out one by one."""
    generator = torch.Generator().manual_seed(seed)

    def rows(count: int) -> Tensor:
        unit = torch.nn.functional.normalize(torch.randn(count, width, generator=generator), dim=1)
        return unit.to(device=device, dtype=dtype)

    def integers(low: int, high: int, count: int) -> Tensor:
        return torch.randint(low, high, (count,), generator=generator).to(device)

    problem = Problem(
        rows(num_queries),
        rows(num_candidates),
        integers(0, max(1, num_candidates), num_queries),
        integers(0, num_groups, num_queries),
        integers(-2, num_groups, num_candidates),
        1.0 / peak,
    )
    if share_left_out is None:
        return problem
    left_out = torch.rand(num_queries, num_candidates, generator=generator) < share_left_out
    return replace(problem, left_out=left_out.to(device))


@dataclass(frozen=True)
class Reference:
    """Everything the ops compute, in float64, and the gradients of
    sum(grad_row * row_lse + grad_positive * positive_logit) + sum(grad_column * column_lse)."""

    row_lse: Tensor
    positive_logit: Tensor
    column_lse: Tensor
    grad_queries: Tensor
    grad_candidates: Tensor
    grad_scale: Tensor
    sizes: tuple[float, float, float]
    """Norms of the gradients' absolute terms: what is added up, which may cancel, and so the measure of rounding."""
    largest_logit: float


def reference(problem: Problem, grad_row: Tensor, grad_positive: Tensor, grad_column: Tensor | None) -> Reference:
    """Straight from the definition, with the float32 value of the scale."""
    queries, candidates, positive_index, query_groups, candidate_groups, scale = problem.pairs()
    leaves = [tensor.detach().double().requires_grad_() for tensor in (queries, candidates, scale)]
    logits_QD = leaves[0] @ leaves[1].T * leaves[2]
    shares_group_QD = (query_groups[:, None] == candidate_groups) & (candidate_groups >= 0)
    takes_part_QD = ~shares_group_QD & (candidate_groups != -2)
    if problem.left_out is not None:
        takes_part_QD &= ~problem.left_out
    takes_part_QD[torch.arange(len(queries)), positive_index] = True
    masked_QD = torch.where(takes_part_QD, logits_QD, float("-inf"))
    row_lse, column_lse = torch.logsumexp(masked_QD, 1), torch.logsumexp(masked_QD, 0)
    positive_logit = logits_QD[torch.arange(len(queries)), positive_index]
    total = (grad_row.double() * row_lse + grad_positive.double() * positive_logit).sum()
    if grad_column is not None:
        reached = column_lse.isfinite()
        total = total + (grad_column.double()[reached] * column_lse[reached]).sum()
    gradients = torch.autograd.grad(total, leaves)
    with torch.no_grad():
        weights_QD = grad_row.double().abs()[:, None] * (masked_QD - row_lse[:, None]).exp()
        weights_QD[torch.arange(len(queries)), positive_index] += grad_positive.double().abs()
        if grad_column is not None:
            weights_QD += (grad_column.double().abs() * (masked_QD - column_lse).exp()).nan_to_num()
        for_queries_QH = weights_QD @ leaves[1].abs()
        for_candidates_DH = weights_QD.T @ leaves[0].abs()
        sizes = (
            float(for_queries_QH.norm() * leaves[2]),
            float(for_candidates_DH.norm() * leaves[2]),
            float((for_queries_QH * leaves[0].abs()).sum()),
        )
        largest = float(logits_QD.abs().max()) if logits_QD.numel() else 0.0
    found = (row_lse.detach(), positive_logit.detach(), column_lse.detach())
    return Reference(*found, *gradients, sizes, largest)


def lse_bound(problem: Problem, largest_logit: float) -> float:
    """4 x 2^-24 (1 + max |logit|), and what a chain of H roundings adds to a logit."""
    lengths = problem.queries.double().norm(dim=1).max() * problem.candidates.double().norm(dim=1).max()
    chain = problem.queries.size(1) * EPSILON * float(lengths) / problem.temperature
    return 4 * EPSILON * (1 + largest_logit) + chain
