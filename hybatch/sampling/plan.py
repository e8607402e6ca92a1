"""The plan: for every step of a run the cell its batch comes from and the batch's position in that cell."""

from __future__ import annotations

import decimal
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hybatch.sampling.cells import CellTable
from hybatch.sampling.config import AlphaSchedule, BatchKind, SamplingConfig
from hybatch.sampling.keyed import Int64Array, UInt64Array, derive_key, draws

_MONO: BatchKind = "x-x-mono"
_CROSS: BatchKind = "x-y"


@dataclass(frozen=True, eq=False)
class Plan:
    """Attributes:
    cells: [T] int32, index of the step's cell.
    positions: [T] int64, number of earlier steps of the same cell.
    """

    cells: npt.NDArray[np.int32]
    positions: Int64Array


def alpha_at(alpha: float | AlphaSchedule, total_steps: int) -> npt.NDArray[np.float64]:
    """The probability of an x-x-mono batch at each of `total_steps` steps: [T] float64.

    A schedule is at `start` on the first step and at `end` on the last, a single step has `start`.
    """
    if not isinstance(alpha, AlphaSchedule):
        return np.full(total_steps, float(alpha))
    progress = np.arange(total_steps) / max(1, total_steps - 1)
    if alpha.shape == "cosine":
        progress = _half_cosine(progress)
    # Weighing both ends, rather than adding a difference, meets both exactly.
    return np.clip((1.0 - progress) * alpha.start + progress * alpha.end, 0.0, 1.0)


def _half_cosine(progress: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(1 - cos(pi x)) / 2 = sin(pi x / 2)^2 for x in [0, 1], from multiplications and additions only.

    A library's cosine may differ in the last bit from one machine to the next; these operations may not.
    """
    mirrored = progress > 0.5
    angle = np.where(mirrored, 1.0 - progress, progress) * (math.pi / 2)
    square = angle * angle
    series = np.zeros_like(angle)
    for term in range(9, -1, -1):
        series = series * square + (-1.0) ** term / math.factorial(2 * term + 1)
    sine = angle * series
    return np.where(mirrored, 1.0 - sine * sine, sine * sine)


def mono_steps(share: float, total_steps: int) -> int:
    """How many steps, from the first on, are x-x-mono in a sequential run: share * total_steps, halves rounded up."""
    return math.floor(share * total_steps + 0.5)


def planned_kinds(config: SamplingConfig, total_steps: int) -> list[BatchKind]:
    """The kinds of batch that a run may draw."""
    if config.kind == "sequential":
        mono = mono_steps(config.share, total_steps)
        has_mono, has_cross = mono > 0, mono < total_steps
    elif config.kind == "hybrid":
        alpha = alpha_at(config.alpha, total_steps)
        has_mono, has_cross = bool(alpha.max() > 0), bool(alpha.min() < 1)
    else:
        return [config.kind]
    return [kind for kind, there in ((_MONO, has_mono), (_CROSS, has_cross)) if there]


def draw_plan(config: SamplingConfig, table: CellTable, *, seed: int, total_steps: int) -> Plan:
    """Draw the cell of every step, for all steps at once: O(T log T) once, nothing per step later."""
    steps = np.arange(total_steps)
    kinds = _draw_kinds(config, seed, total_steps)
    dataset_draws, language_draws = (draws(derive_key(part, seed), steps) for part in ("dataset", "language"))
    cells = np.empty(total_steps, dtype=np.int32)
    for kind in np.unique(kinds).tolist():
        at = np.flatnonzero(kinds == kind)
        cells[at] = _draw_cells(config, table, kind, dataset_draws[at], language_draws[at])
    return Plan(cells=cells, positions=_positions(cells))


def _draw_kinds(config: SamplingConfig, seed: int, total_steps: int) -> npt.NDArray[np.str_]:
    steps = np.arange(total_steps)
    if config.kind == "sequential":
        return np.where(steps < mono_steps(config.share, total_steps), _MONO, _CROSS)
    if config.kind == "hybrid":
        # 53 bits are exact in float64: alpha 0 never and alpha 1 always draws x-x-mono.
        uniform = (draws(derive_key("kind", seed), steps) >> np.uint64(11)) * 2.0**-53
        return np.where(uniform < alpha_at(config.alpha, total_steps), _MONO, _CROSS)
    return np.full(total_steps, config.kind)


def _draw_cells(
    config: SamplingConfig, table: CellTable, kind: BatchKind, dataset_draws: UInt64Array, language_draws: UInt64Array
) -> Int64Array:
    """One cell a draw: the data set by its usable ids, then, among its cells of this kind, the language."""
    by_dataset: dict[int, list[int]] = {}
    for index, cell in enumerate(table.cells):
        if cell.kind == kind:
            by_dataset.setdefault(cell.dataset, []).append(index)
    sizes = [table.num_ids[kind, dataset] for dataset in by_dataset]
    chosen = _weighted(dataset_draws, sizes, config.dataset_exponent)
    cells = np.empty(len(dataset_draws), dtype=np.int64)
    for choice, members in enumerate(by_dataset.values()):
        at = np.flatnonzero(chosen == choice)
        lengths = [len(table.cells[index].usable) for index in members]
        cells[at] = np.array(members)[_weighted(language_draws[at], lengths, config.language_exponent)]
    return cells


def _weighted(numbers: UInt64Array, sizes: Sequence[int], exponent: float) -> Int64Array:
    """Choose index i with probability proportional to sizes[i] ** exponent: [n] from [n] uniform 64-bit numbers.

    The bounds are computed in decimal arithmetic, whose powers are the same on every machine.
    """
    with decimal.localcontext(decimal.Context(prec=50)):
        weights = [decimal.Decimal(size) ** decimal.Decimal(exponent) for size in sizes]
        total = sum(weights)
        bounds, reached = [], decimal.Decimal(0)
        for weight in weights[:-1]:
            reached += weight
            bounds.append(min((1 << 64) - 1, int(reached / total * (1 << 64))))
    return np.searchsorted(np.array(bounds, dtype=np.uint64), numbers, side="right")


def _positions(cells: npt.NDArray[np.int32]) -> Int64Array:
    """For every step the number of earlier steps of the same cell."""
    order = np.argsort(cells, kind="stable")
    _, starts, counts = np.unique(cells[order], return_index=True, return_counts=True)
    positions = np.empty(len(cells), dtype=np.int64)
    positions[order] = np.arange(len(cells)) - np.repeat(starts, counts)
    return positions
