"""What contrastive losses compare, in one bundle.

Shape suffixes: Q queries, D candidates, H embedding width, B bytes of a query's bits, W processes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from hybatch.losses.truncation import truncated


@dataclass(frozen=True, kw_only=True)
class ContrastiveInputs:
    """Queries and the candidates that they are compared with, named as the arguments of `hybatch.ops.info_nce`.

    Attributes:
        queries_QH: float, rows of unit length.
        candidates_DH: float, rows of unit length.
        positive_index_Q: int64, the column of each query's positive.
        query_groups_Q: int64, the passage group of each query's positive.
        candidate_groups_D: int64; `UNKNOWN_GROUP` and `EMPTY_SLOT` have the meanings stated there.
        temperature: greater than 0.
        left_out_QB: uint8, further pairs that take no part, as `pack_pairs` packs them; of candidates that pass in
            blocks [W, Q, B], one such of each process's block, in rank order. None where there are none.

    A candidate of the query's own passage group (a translation or a duplicate of the positive) is no negative; only the
    positive's own column counts.
    """

    queries_QH: Tensor
    candidates_DH: Tensor
    positive_index_Q: Tensor
    query_groups_Q: Tensor
    candidate_groups_D: Tensor
    temperature: float
    left_out_QB: Tensor | None = None

    def as_arguments(self) -> dict[str, Any]:
        """For `info_nce(**inputs.as_arguments())` and its like."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def truncated(self, width: int) -> ContrastiveInputs:
        """The same pairs by the leading dimensions of their embeddings, scaled to unit length."""
        queries, candidates = (truncated(rows, width) for rows in (self.queries_QH, self.candidates_DH))
        return replace(self, queries_QH=queries, candidates_DH=candidates)
