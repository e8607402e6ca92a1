"""Ranking problems as the dispatcher ops take them, and what these ops make of them on any device.

Q queries, D candidates, P positives, G groups, H embedding width.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tests.ops.devices import ops_on, put, zeros

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Problem:
    """Tensors on the CPU, in the dtype that the op takes."""

    queries: Tensor  # [Q, H]
    candidates: Tensor  # [D, H]
    groups: Tensor  # [D] int32
    positives: Tensor  # [P] int64
    offsets: Tensor  # [Q + 1] int64
    num_groups: int
    precision: str = "fp32"


@dataclass(frozen=True)
class Counts:
    greater: Tensor
    tied_before: Tensor
    tied_after: Tensor
    status: Tensor

    @staticmethod
    def zeros(problem: Problem, device: str = "cpu") -> Counts:
        shape = (len(problem.positives), problem.num_groups)
        tables = (zeros(shape, torch.int32, device) for _ in range(3))
        return Counts(*tables, zeros((4,), torch.int64, device))

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.greater, self.tied_before, self.tied_after

    def all(self) -> list[Tensor]:
        return [*self.tables(), self.status]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counts) and all(
            torch.equal(mine.cpu(), its.cpu()) for mine, its in zip(self.all(), other.all(), strict=True)
        )


def random_problem(
    seed: int, *, Q: int, D: int, H: int, G: int, most: int = 5, integers: bool = False, grouped: bool = True,
    precision: str = "fp32",
) -> Problem:  # fmt: skip
    generator = np.random.default_rng(seed)

    def rows(count: int) -> Tensor:
        values = generator.integers(-2, 3, (count, H)) if integers else generator.standard_normal((count, H))
        return torch.from_numpy(values.astype(np.float32)).to(DTYPES[precision])

    owned = generator.integers(0, most + 1, Q) if D else np.zeros(Q, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(owned)]).astype(np.int64)
    positives = generator.integers(0, max(D, 1), offsets[-1])
    groups = generator.integers(-1, G + 1, D).astype(np.int32)  # both ends are outside
    if grouped:
        groups.sort()
    groups_D, positives_P, starts = (torch.from_numpy(array) for array in (groups, positives, offsets))
    return Problem(rows(Q), rows(D), groups_D, positives_P, starts, num_groups=G, precision=precision)


def moved(problem: Problem, device: str) -> Problem:
    """The same on a device, so that nothing the ops are called with needs copying."""
    tensors = ("queries", "candidates", "groups", "positives", "offsets")
    return replace(problem, **{name: put(getattr(problem, name), device) for name in tensors})


def pair_scores(problem: Problem, device: str = "cpu", *, gathered: bool = False) -> Tensor:
    embeddings = problem.candidates[problem.positives] if gathered else problem.candidates
    rows = None if gathered else put(problem.positives, device)
    queries, embeddings, offsets = (put(t, device) for t in (problem.queries, embeddings, problem.offsets))
    scores: Tensor = ops_on(device).pair_scores(queries, embeddings, offsets, problem.precision, rows)
    return scores


def count(
    problem: Problem, device: str = "cpu", *, cuts: tuple[int, ...] = (), thresholds: Tensor | None = None
) -> Counts:
    """Counts from one block, or from those between the cuts, last block first.

    Args:
        thresholds: scores of the positives; by default what `pair_scores` gives.
    """
    counts = Counts.zeros(problem, device)
    thresholds = pair_scores(problem, device) if thresholds is None else thresholds
    bounds = [0, *cuts, len(problem.candidates)]
    queries, positives, offsets = (put(t, device) for t in (problem.queries, problem.positives, problem.offsets))
    for first, end in reversed(list(itertools.pairwise(bounds))):
        ops_on(device).count_above_(
            *counts.all(), queries, thresholds, positives, offsets, put(problem.candidates[first:end], device),
            put(problem.groups[first:end], device), first, problem.precision,
        )  # fmt: skip
    return counts


def all_scores(problem: Problem, device: str = "cpu") -> np.ndarray:
    """[Q, D] from `pair_scores` on the device."""
    num_queries, num_candidates = len(problem.queries), len(problem.candidates)
    everyone = replace(
        problem,
        positives=torch.arange(num_candidates).repeat(num_queries),
        offsets=torch.arange(num_queries + 1) * num_candidates,
    )
    return pair_scores(everyone, device).reshape(num_queries, num_candidates).cpu().numpy()


def brute_force(problem: Problem, device: str = "cpu") -> Counts:
    """What must be counted if the scores of all pairs are those that `pair_scores` gives."""
    scores_QD = all_scores(problem, device)
    owners = np.repeat(np.arange(len(problem.queries)), problem.offsets.diff().numpy())
    index, groups = np.arange(len(problem.candidates)), problem.groups.numpy()
    tables = np.zeros((3, len(owners), problem.num_groups), dtype=np.int32)
    for p, (query, own) in enumerate(zip(owners, problem.positives.tolist(), strict=True)):
        scores, threshold = scores_QD[query], scores_QD[query, own]
        wanted = (scores > threshold, (scores == threshold) & (index < own), (scores == threshold) & (index > own))
        for table, mask in zip(tables, wanted, strict=True):
            members = groups[mask & (groups >= 0) & (groups < problem.num_groups)]
            table[p] = np.bincount(members, minlength=problem.num_groups)
    return Counts(*map(torch.from_numpy, tables), torch.tensor([len(owners), 0, 0, 0]))


def at_another_address(rows: Tensor, device: str) -> Tensor:
    """The same rows on a device, from the second element of its memory on."""
    storage = put(torch.empty(rows.numel() + 1, dtype=rows.dtype), device)
    view = storage[1:].view(rows.shape)
    view.copy_(rows)
    return view


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def adversarial_rows(family: str, count: int, width: int, generator: np.random.Generator) -> np.ndarray:
    rows = generator.standard_normal((count, width))
    if family == "near ties":  # one direction, and changes around the last bits of fp32, tf32 and bf16
        steps = 2.0 ** generator.integers(-25, -6, (count, 1))
        rows = unit(np.abs(rows[:1]) + 0.1) * (1 + rows * steps)
    elif family == "unequal lengths":
        rows = unit(rows) * 10.0 ** generator.uniform(-3, 3, (count, 1))
    elif family == "wide range":
        rows = rows * 2.0 ** generator.integers(-20, 20, (count, width))
    elif family == "cancelling":  # large terms that all but vanish in the sum
        rows[:, 1::2] = -rows[:, : 2 * (width // 2) : 2] * (1 + 2.0**-20)
        rows = rows * 100
    elif family == "integers":
        rows = generator.integers(-2, 3, (count, width)).astype(np.float64)
    elif family == "subnormal":
        rows = rows * 2.0 ** generator.integers(-140, -60, (count, 1))
    elif family == "huge":  # beyond the range of fp16, short of overflowing fp32
        rows = rows * 2.0 ** generator.integers(10, 50, (count, 1))
    else:
        rows = unit(rows)
    return rows.astype(np.float32)


FAMILIES = ["unit", "near ties", "unequal lengths", "wide range", "cancelling", "integers", "subnormal", "huge"]


def adversarial_problem(seed: int, family: str, *, Q: int, D: int, H: int, G: int, most: int = 4) -> Problem:
    """Embeddings of a family under the groups and positives of a random problem."""
    generator = np.random.default_rng(seed)
    problem = random_problem(seed, Q=Q, D=D, H=H, G=G, most=most, grouped=bool(seed % 2))
    queries, candidates = (torch.from_numpy(adversarial_rows(family, n, H, generator)) for n in (Q, D))
    return replace(problem, queries=queries, candidates=candidates)
