"""The plan: for every step of a run the cell its batch comes from and the batch's position in that cell.

Shapes: T steps, K kinds of batch.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hybatch.sampling.cells import CellTable
from hybatch.sampling.config import SamplingConfig, ShareSchedule, phases_of, shares_of
from hybatch.sampling.keyed import Int64Array, UInt64Array, derive_key, draws


@dataclass(frozen=True, eq=False)
class Plan:
    """Attributes:
    cells: [T] int32, index of the step's cell.
    positions: [T] int64, number of earlier steps of the same cell.
    expected_shares: of each cell of the table the share of the steps that it has on average over seeds.
    """

    cells: npt.NDArray[np.int32]
    positions: Int64Array
    expected_shares: list[float]


def share_at(share: float | ShareSchedule, total_steps: int) -> npt.NDArray[np.float64]:
    """The probability of a kind at each of `total_steps` steps: [T] float64.

    A schedule is at `start` on the first step and at `end` on the last, a single step has `start`.
    """
    if not isinstance(share, ShareSchedule):
        return np.full(total_steps, float(share))
    progress = np.arange(total_steps) / max(1, total_steps - 1)
    if share.shape == "cosine":
        progress = _half_cosine(progress)
    # Weighing both ends, rather than adding a difference, meets both exactly.
    return np.clip((1.0 - progress) * share.start + progress * share.end, 0.0, 1.0)


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


def phase_ends(config: SamplingConfig, total_steps: int) -> list[tuple[str, int]]:
    """The kind of each phase of a sequential run, and the first step behind it; halves are rounded up."""
    phases, reached, ends = phases_of(config), 0.0, []
    for phase in phases[:-1]:
        reached += phase.share
        ends.append((phase.kind, min(total_steps, math.floor(reached * total_steps + 0.5))))
    return [*ends, (phases[-1].kind, total_steps)]


def kind_shares(config: SamplingConfig, total_steps: int) -> dict[str, npt.NDArray[np.float64]]:
    """The kinds that a run names, in alphabetical order, each with its probability at every step: [T] float64."""
    shares_of_composition = _COMPOSED.get(config.kind)
    if shares_of_composition is None:
        return {config.kind: np.ones(total_steps)}
    return dict(sorted(shares_of_composition(config, total_steps).items()))


def _hybrid_shares(config: SamplingConfig, total_steps: int) -> dict[str, npt.NDArray[np.float64]]:
    return {kind: share_at(share, total_steps) for kind, share in shares_of(config).items()}


def _sequential_shares(config: SamplingConfig, total_steps: int) -> dict[str, npt.NDArray[np.float64]]:
    """1 in the phases of a kind, else 0."""
    shares: dict[str, npt.NDArray[np.float64]] = {}
    start = 0
    for kind, end in phase_ends(config, total_steps):
        shares.setdefault(kind, np.zeros(total_steps))[start:end] = 1
        start = end
    return shares


_COMPOSED = {"hybrid": _hybrid_shares, "sequential": _sequential_shares}
"""How a run of several kinds shares out its steps, by its name in `COMPOSITIONS`."""


def planned_kinds(config: SamplingConfig, total_steps: int) -> list[str]:
    """The kinds of batch that a run may draw, in alphabetical order."""
    return [kind for kind, share_T in kind_shares(config, total_steps).items() if share_T.max() > 0]


def draw_plan(config: SamplingConfig, table: CellTable, *, seed: int, total_steps: int) -> Plan:
    """Draw the cell of every step, for all steps at once: O(T log T) once, nothing per step later."""
    steps = np.arange(total_steps)
    kinds = _draw_kinds(config, seed, total_steps)
    dataset_draws, language_draws = (draws(derive_key(part, seed), steps) for part in ("dataset", "language"))
    cells = np.empty(total_steps, dtype=np.int32)
    for kind in np.unique(kinds).tolist():
        at = np.flatnonzero(kinds == kind)
        cells[at] = _draw_cells(config, table, kind, dataset_draws[at], language_draws[at])
    return Plan(cells=cells, positions=_positions(cells), expected_shares=_expected_shares(config, table, total_steps))


def _expected_shares(config: SamplingConfig, table: CellTable, total_steps: int) -> list[float]:
    expected = [0.0] * len(table.cells)
    for kind, share_T in kind_shares(config, total_steps).items():
        members = _members(table, kind)
        for share, of_dataset in zip(_shares(_dataset_weights(config, table, kind)), members.values(), strict=True):
            for language_share, cell in zip(_shares(_cell_weights(config, table, of_dataset)), of_dataset, strict=True):
                expected[cell] = float(share_T.mean()) * share * language_share
    return expected


def _members(table: CellTable, kind: str) -> dict[int, list[int]]:
    """The cells of a kind, by data set."""
    by_dataset: dict[int, list[int]] = {}
    for index, cell in enumerate(table.cells):
        if cell.kind == kind:
            by_dataset.setdefault(cell.dataset, []).append(index)
    return by_dataset


def _dataset_weights(config: SamplingConfig, table: CellTable, kind: str) -> list[decimal.Decimal]:
    """Of the data sets that have a cell of the kind, by their usable ids."""
    datasets = _members(table, kind)
    sizes = [table.num_ids[kind, dataset] for dataset in datasets]
    return _weights(sizes, config.dataset_exponent, [table.dataset_weights.get(dataset, 1.0) for dataset in datasets])


def _cell_weights(config: SamplingConfig, table: CellTable, cells: Sequence[int]) -> list[decimal.Decimal]:
    """Of the cells of one kind and data set."""
    sizes = [len(table.cells[index].usable) for index in cells]
    return _weights(sizes, config.language_exponent, [table.cells[index].weight for index in cells])


def _draw_kinds(config: SamplingConfig, seed: int, total_steps: int) -> npt.NDArray[np.str_]:
    """The kind of each step: a uniform number in [0, 1) against the shares, one on top of the other."""
    # 53 bits are exact in float64: a share of 0 never and a share of 1 always draws its kind.
    uniform_T = (draws(derive_key("kind", seed), np.arange(total_steps)) >> np.uint64(11)) * np.float64(2.0**-53)
    shares = kind_shares(config, total_steps)
    shares_KT = np.array(list(shares.values()))
    bounds_KT = np.cumsum(shares_KT, axis=0)
    # The last kind with a share takes all that is left, whatever the sum has been rounded to.
    behind_KT = np.zeros_like(shares_KT)
    behind_KT[:-1] = np.cumsum(shares_KT[:0:-1], axis=0)[::-1]
    bounds_KT[behind_KT == 0] = np.inf
    return np.array(list(shares))[(uniform_T >= bounds_KT).sum(axis=0)]


def _draw_cells(
    config: SamplingConfig, table: CellTable, kind: str, dataset_draws: UInt64Array, language_draws: UInt64Array
) -> Int64Array:
    """One cell a draw: the data set by its usable ids, then, among its cells of this kind, the language."""
    chosen = _chosen(dataset_draws, _dataset_weights(config, table, kind))
    cells = np.empty(len(dataset_draws), dtype=np.int64)
    for choice, members in enumerate(_members(table, kind).values()):
        at = np.flatnonzero(chosen == choice)
        cells[at] = np.array(members)[_chosen(language_draws[at], _cell_weights(config, table, members))]
    return cells


# Powers and quotients of decimal arithmetic are the same on every machine.
_DECIMAL = decimal.Context(prec=50)


def _weights(sizes: Sequence[int], exponent: float, factors: Sequence[float]) -> list[decimal.Decimal]:
    """factors[i] * sizes[i] ** exponent, for every i."""
    with decimal.localcontext(_DECIMAL):
        power = decimal.Decimal(exponent)
        return [
            decimal.Decimal(factor) * decimal.Decimal(size) ** power
            for factor, size in zip(factors, sizes, strict=True)
        ]


def _shares(weights: Sequence[decimal.Decimal]) -> list[float]:
    with decimal.localcontext(_DECIMAL):
        total = sum(weights)
        return [float(weight / total) for weight in weights]


def _chosen(numbers: UInt64Array, weights: Sequence[decimal.Decimal]) -> Int64Array:
    """Choose index i with probability proportional to weights[i]: [n] from [n] uniform 64-bit numbers."""
    with decimal.localcontext(_DECIMAL):
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
