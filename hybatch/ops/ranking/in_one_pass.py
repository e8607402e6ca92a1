"""Ranks among candidates that are at hand in one tensor.

Shapes: Q queries, D candidates, P positives (all queries together), G groups, H embedding width.
"""

from __future__ import annotations

from torch import Tensor

from hybatch.ops import checks
from hybatch.ops.ranking.counter import RankCounter
from hybatch.ops.ranking.counts import RankCounts


def rank_counts(
    queries: Tensor,
    candidates: Tensor,
    candidate_groups: Tensor,
    positives: Tensor,
    positive_offsets: Tensor,
    num_groups: int,
    *,
    precision: str = "fp32",
    rescore: bool = False,
    validate: bool = True,
    best: int = 0,
    backend: str = "auto",
) -> RankCounts:
    """Count, for each positive of each query and each group, the candidates that score above it or tie with it.

    Args:
        queries: [Q, H], float32, bfloat16 or float16, or codes: int8, or bits in uint8 (`hybatch.ops.codes`).
        candidates: [D, H], any of these; of two floating dtypes both are taken as float32, which changes no value, and
            codes are compared with codes of their own kind.
        candidate_groups: [D] integers in [0, num_groups), in any order.
        positives: [P] integers in [0, D): the candidate that each positive is.
        positive_offsets: [Q + 1] integers; query i owns positives[offsets[i]:offsets[i + 1]], possibly none.
        num_groups: G.
        precision, rescore, validate, best, backend: see the top of `hybatch.ops.ranking`.

    Raises:
        TypeError, ValueError: an argument of the wrong dtype, shape, device or range, or a NaN or infinity; the
            message names the argument and the first offending entry.
        BackendError: the backend that was asked for is missing.

    Memory: 3 P G int32 for the result, 12 Q (K + G) bytes for K best candidates and 16 Q K + 8 Q G more while the CPU
    counts, tiles of bounded size, and where CUDA rescores a queue of at most P + 2^24
    pairs, 8 bytes each; never Q x D or P x H.
    """
    values = checks.ValueChecks(validate)
    _check_candidates(queries, candidates, positives, values)
    counter = RankCounter(
        queries,
        candidates,
        positives,
        positive_offsets,
        num_groups,
        positive_rows=positives,
        precision=precision,
        rescore=rescore,
        validate=validate,
        best=best,
        backend=backend,
        _values=values,
    )
    counter.add(candidates, candidate_groups, 0)
    return counter.finish()


def _check_candidates(queries: Tensor, candidates: Tensor, positives: Tensor, values: checks.ValueChecks) -> None:
    checks.check_embeddings("queries", queries)
    checks.check_embeddings("candidates", candidates, width=queries.size(1))
    checks.check_same_codes("candidates", candidates, queries)
    checks.check_integers("positives", positives)
    checks.check_device("candidates", candidates, queries.device)
    checks.check_device("positives", positives, queries.device)
    values.in_range("positives", positives, len(candidates))
