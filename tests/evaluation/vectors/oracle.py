"""Small vectors by numpy alone: whole numbers in int64 whose inner products are the scores.

Shares nothing with the package but the task's tables.
"""

from __future__ import annotations

import numpy as np

Tables = dict[str, np.ndarray]


def whole_vectors(queries: Tables, candidates: Tables, kind: str, dimensions: int) -> tuple[Tables, Tables]:
    """The queries and candidates, unit rows in float32, as int64."""
    queries, candidates = ({x: _cut(rows, dimensions) for x, rows in table.items()} for table in (queries, candidates))
    if kind == "binary":
        return tuple({x: np.where(rows > 0, 1, -1) for x, rows in table.items()} for table in (queries, candidates))
    pool = np.concatenate([*candidates.values()]).astype(np.float64)
    middle = (pool.max(axis=0) + pool.min(axis=0)) / 2
    scale = 127 / ((pool.max(axis=0) - pool.min(axis=0)).max() / 2)
    coded = {x: np.rint((rows.astype(np.float64) - middle) * scale).astype(np.int64) for x, rows in candidates.items()}
    asked = {x: np.stack([np.rint(row.astype(np.float64) * (127 / np.abs(row).max())) for row in rows]).astype(np.int64)
             for x, rows in queries.items()}  # fmt: skip
    return asked, coded


def _cut(rows: np.ndarray, dimensions: int) -> np.ndarray:
    if dimensions == rows.shape[1]:
        return rows
    cut = rows[:, :dimensions]
    return (cut / np.sqrt((cut.astype(np.float64) ** 2).sum(axis=1, keepdims=True))).astype(np.float32)
