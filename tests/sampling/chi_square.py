"""How far counts may be from what chance gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.stats


def chance_of_counts(counts: Sequence[int] | np.ndarray, expected: Sequence[float] | np.ndarray | None = None) -> float:
    """The chance (p-value) of counts at least this far from `expected` (default: all equal), by the chi-square test."""
    counts = np.asarray(counts).ravel()
    if expected is None:
        expected = np.full(len(counts), counts.sum() / len(counts))
    expected = np.asarray(expected, dtype=float).ravel()
    return float(scipy.stats.chisquare(counts, expected * (counts.sum() / expected.sum())).pvalue)
