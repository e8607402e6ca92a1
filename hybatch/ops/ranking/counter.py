"""Counting over blocks of candidates, from memory, files or processes.

Shapes: Q queries, D candidates, P positives (all queries together), G groups, H embedding width.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from hybatch.ops import checks
from hybatch.ops.backend import choose_backend
from hybatch.ops.codes import CODE_DTYPES, largest_square, scores_are_exact
from hybatch.ops.precision import op_precision, round_rows
from hybatch.ops.ranking.backend import ranking_ops
from hybatch.ops.ranking.best import BestCandidates
from hybatch.ops.ranking.counts import RankCounts
from hybatch.ops.ranking.torch_backend import BAD_CANDIDATES, BAD_QUERIES, SELF_HITS, STATUS_SIZE

_COPY_BYTES = 2**26


class RankCounter:
    """`rank_counts` over blocks of candidates that come in any order and size, from memory, files or processes.

    The candidates are numbered 0, 1, ... over all blocks; each `add` says where its block begins. The result is the
    same, bit for bit, however the candidates are cut. Counters that took different blocks are joined by `merge`, or
    across processes by `all_reduce`.

    Args:
        queries: [Q, H], float32, bfloat16 or float16, or codes (`hybatch.ops.codes`).
        positive_embeddings: [P, H], the embedding of each positive, equal to the row that will come in its block.
        positive_index: [P] integers: the candidate number of each positive.
        positive_offsets: [Q + 1] integers; query i owns the positives offsets[i] .. offsets[i + 1] - 1.
        num_groups: G.
        positive_rows: [P] integers, optional: then positive p is row positive_rows[p] of `positive_embeddings`, which
            may have any number of rows (positives shared by many queries need be stored once).
        precision, rescore, validate, best, backend: see the top of `hybatch.ops.ranking`.

    Raises:
        TypeError, ValueError, BackendError: as `rank_counts`.
    """

    def __init__(
        self,
        queries: Tensor,
        positive_embeddings: Tensor,
        positive_index: Tensor,
        positive_offsets: Tensor,
        num_groups: int,
        *,
        positive_rows: Tensor | None = None,
        precision: str = "fp32",
        rescore: bool = False,
        validate: bool = True,
        best: int = 0,
        backend: str = "auto",
        _values: checks.ValueChecks | None = None,
    ) -> None:
        # `rank_counts` hands over what it has asked; it adds its block at once, where the thresholds' check is settled.
        self._values = checks.ValueChecks(validate) if _values is None else _values
        with self._values as values:
            checks.check_precision(precision)
            _check_precision_of(queries, precision)
            _check_best(best, precision)
            _check_positives(queries, positive_embeddings, positive_index, positive_offsets, positive_rows, values)
            if num_groups < 0:
                raise ValueError(f"num_groups: expected 0 or more, got {num_groups}")
            self.backend = choose_backend(queries.device, backend)
            self._precision = op_precision(precision, rescore, self.backend)
            self._validate = validate
            self._like_queries = queries.new_empty((0, queries.size(1)))
            self._query_square = largest_square(queries) if validate else 0
            self._queries = round_rows(queries, self._precision, self.backend)
            # Rounding makes nothing finite, so one look finds what was bad before it, too.
            values.finite(self._queries, lambda: self._refuse_bad_rows("queries", queries, self._queries))
        self._positive_index = positive_index.long().contiguous()
        self._offsets = positive_offsets.long().contiguous()
        self._ranges: list[tuple[int, int]] = []
        self._failed = False
        self._thresholds = self._score_positives(positive_embeddings, positive_rows)
        # Where the rows are the candidate numbers, the embeddings are the candidates.
        name = "candidates" if positive_rows is positive_index else "positive_embeddings"
        self._values.finite(self._thresholds, lambda: self._refuse_thresholds(name, positive_embeddings))
        if _values is None:
            self._values.settle()
        # One tensor, so that processes can sum everything at once.
        num_counts = len(positive_index) * num_groups
        self._counts = torch.zeros(3 * num_counts, dtype=torch.int32, device=queries.device)
        self._status = torch.zeros(STATUS_SIZE, dtype=torch.int64, device=queries.device)
        self._status_read: list[int] | None = None
        self._num_groups = num_groups
        self._best = BestCandidates.none_yet(len(queries), best, num_groups, self._thresholds) if best else None

    def add(self, block: Tensor | np.ndarray, groups: Tensor | np.ndarray, first_index: int) -> None:
        """Count the candidates first_index, first_index + 1, ... whose embeddings are the rows of `block`.

        Args:
            block: [D, H], float32, bfloat16 or float16, or codes as the queries are. A numpy array (a memory map, say)
                or a tensor on another device is copied to the queries' device in slices of at most 64 MiB.
            groups: [D] integers in [0, num_groups).
            first_index: number of the block's first candidate, >= 0.

        Raises:
            TypeError, ValueError: wrong dtype, shape or range; a NaN or infinity; candidates that were counted
                before; 2^31 candidates or more. The counter keeps what it had, except after a NaN, infinity or
                overflow, when it can only be thrown away.
        """
        if not isinstance(groups, Tensor):
            groups = torch.from_numpy(np.array(groups))  # a copy: the array may be read-only
        device = self._queries.device
        like_block = block if isinstance(block, Tensor) else _like(block)
        with self._values as values:
            checks.check_embeddings("block", like_block, width=self._like_queries.size(1))
            checks.check_same_codes("block", like_block, self._like_queries)
            checks.check_integers("groups", groups, length=len(block))
            values.in_range("groups", groups, self._num_groups)
        self._claim(first_index, first_index + len(block))
        for start, rows in _on_device(block, device):
            groups_D = groups[start : start + len(rows)].to(device=device, dtype=torch.int32).contiguous()
            self._count(rows, groups_D, first_index + start)

    def merge(self, other: RankCounter) -> None:
        """Add what `other`, a counter of the same queries and positives over other candidates, has counted.

        Raises:
            ValueError: other queries, positives, groups, precision, backend or number of best candidates; candidates
                that both have counted.
        """
        _refuse_unlike("other", other._identity(), self._identity())
        self._claim_all(other._ranges)
        self._counts += other._counts.to(self._counts.device)
        self._status += other._status.to(self._status.device)
        self._status_read = None
        self._failed |= other._failed
        if self._best is not None and other._best is not None:
            self._best = self._best.joined([other._best])

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Sum the counts of all processes of `group`; every process then holds those of all candidates.

        The processes first tell one another which candidates they have counted, and for which positives; the counts
        and flags then travel in one all-reduce, the best candidates in one gather per 16,384 queries. Reads back from
        the device, with validate=False too.

        Raises:
            ValueError: on every process, which then keeps what it had: processes differ in their queries, positives,
                groups, precision, backend or number of best candidates; candidates that two of them have counted.
        """
        shares: list[Any] = [None] * dist.get_world_size(group)
        identity = self._identity()
        dist.all_gather_object(shares, (identity, self._ranges), group=group)
        for number, (theirs, _) in enumerate(shares):
            _refuse_unlike(f"process {number}", theirs, identity)
        mine = dist.get_rank(group)
        self._claim_all([claimed for number, (_, ranges) in enumerate(shares) if number != mine for claimed in ranges])
        # Clamped, the flags stay within int32 however many processes add theirs.
        flags = self._status.clone()
        flags[BAD_QUERIES:].clamp_(max=1)
        everything = torch.cat([self._counts, flags.to(torch.int32)])
        dist.all_reduce(everything, group=group)
        self._counts.copy_(everything[: len(self._counts)])
        self._status.copy_(everything[len(self._counts) :])
        self._status_read = None
        if self._best is not None:
            self._best = self._best.over_processes(group)

    def finish(self, num_candidates: int | None = None) -> RankCounts:
        """The counts so far, once every positive has met itself with a score bit-equal to its threshold.

        More blocks may follow; they go on counting in the tensors that were returned. With validate=False no value is
        looked at; instead all counts are -1 for a positive whose own score is not finite, and for every positive if a
        candidate is not finite, a score might overflow, or not every positive has met itself.

        Args:
            num_candidates: D, to be sure that candidates 0 .. D - 1 and no others have been counted.

        Raises:
            ValueError: a candidate is missing, or beyond `num_candidates`; a positive's candidate has not been added;
                an earlier `add` has failed.
            RuntimeError: a positive's score in its block is not its threshold.
        """
        if num_candidates is not None:
            self._refuse_incomplete(num_candidates)
        if self._validate:
            self._refuse_bad_status()
        greater, before, after = self._tables()
        if not self._validate:
            thresholds_finite_P = self._thresholds.isfinite()
            expected_hits = thresholds_finite_P.sum()
            sound = (self._status[BAD_CANDIDATES:] == 0).all() & (self._status[SELF_HITS] == expected_hits)
            offending_P1 = ~(thresholds_finite_P & sound)[:, None]
            greater, before, after = (table.masked_fill(offending_P1, -1) for table in (greater, before, after))
        best = None if self._best is None else self._best.in_order()
        return RankCounts(greater, before, after, self.backend, best)

    def _tables(self) -> list[Tensor]:
        return list(self._counts.view(3, len(self._positive_index), self._num_groups))

    def _score_positives(self, embeddings: Tensor, rows_P: Tensor | None) -> Tensor:
        """Thresholds, [P]."""
        rounded = round_rows(embeddings, self._precision, self.backend)
        rows_P = None if rows_P is None else rows_P.long().contiguous()
        pair_scores = ranking_ops(self.backend).pair_scores
        return pair_scores(*_same_dtype(self._queries, rounded), self._offsets, self._precision, rows_P)

    def _count(self, rows_DH: Tensor, groups_D: Tensor, first_index: int) -> None:
        self._refuse_large_scores(rows_DH, first_index)
        rounded_DH = round_rows(rows_DH, self._precision, self.backend)
        queries_QH, rounded_DH = _same_dtype(self._queries, rounded_DH)
        ops = ranking_ops(self.backend)
        count = ops.count_above_ if self._best is None else ops.count_and_keep_
        self._status_read = None
        count(
            *self._tables(),
            self._status,
            *(() if self._best is None else self._best.tensors()),
            queries_QH,
            self._thresholds,
            self._positive_index,
            self._offsets,
            rounded_DH,
            groups_D,
            first_index,
            self._precision,
        )
        if self._validate and any(self._read_status()[BAD_QUERIES:]):
            self._failed = True
            self._refuse_bad_rows("candidates", rows_DH, rounded_DH, first_index)
            raise ValueError(
                f"candidates {first_index} to {first_index + len(rows_DH) - 1}: a score with a query may overflow "
                "float32; scale the embeddings down"
            )

    def _read_status(self) -> list[int]:
        """The status as it was read, if nothing was counted, merged or summed since."""
        if self._status_read is None:
            self._status_read = self._status.tolist()
        return self._status_read

    def _claim(self, first: int, end: int) -> None:
        """Enter candidates first .. end - 1 as counted."""
        if first < 0:
            raise ValueError(f"first_index: expected 0 or more, got {first}")
        if end >= checks.INDEX_LIMIT:
            raise ValueError(
                f"first_index: candidates {first} to {end - 1} make a total of {end}; counts are 32-bit, so a total "
                "of 2^31 (2,147,483,648) candidates or more cannot be counted"
            )
        if first == end:
            return
        place = bisect.bisect(self._ranges, (first, end))
        for other_first, other_end in self._ranges[max(0, place - 1) : place + 1]:
            if first < other_end and other_first < end:
                raise ValueError(
                    f"first_index: candidates {first} to {end - 1} overlap candidates {other_first} to "
                    f"{other_end - 1}, which were counted before"
                )
        self._ranges.insert(place, (first, end))

    def _claim_all(self, ranges: list[tuple[int, int]]) -> None:
        """Enter what another counter has counted: all of it, or nothing if any of it is refused."""
        before = list(self._ranges)
        try:
            for first, end in ranges:
                self._claim(first, end)
        except ValueError:
            self._ranges = before
            raise

    def _refuse_bad_rows(self, name: str, given: Tensor, rounded: Tensor | None = None, first_index: int = 0) -> None:
        row = checks.first_bad_row(given)
        if row is not None:
            raise ValueError(f"{name}: row {first_index + row} holds a NaN or infinity")
        row = None if rounded is None else checks.first_bad_row(rounded)
        if row is not None:
            raise ValueError(f"{name}: row {first_index + row} overflows when it is rounded to {self._precision}")

    def _refuse_thresholds(self, name: str, embeddings: Tensor) -> None:
        self._refuse_bad_rows(name, embeddings, round_rows(embeddings, self._precision, self.backend))
        raise ValueError("queries, positive_embeddings: a score overflows float32; scale the embeddings down")

    def _refuse_large_scores(self, rows_DH: Tensor, first_index: int) -> None:
        if not self._query_square or scores_are_exact(self._query_square, largest_square(rows_DH)):
            return
        self._failed = True
        raise ValueError(
            f"candidates {first_index} to {first_index + len(rows_DH) - 1}: a score with a query may pass 2^24, beyond "
            "which float32 does not hold every whole number; scale the codes down"
        )

    def _refuse_bad_status(self) -> None:
        hits, _, bad_candidates, overflows = self._read_status()
        if self._failed or bad_candidates or overflows:
            raise ValueError("candidates: a block held a NaN, an infinity or an overflow; the counts are void")
        num_positives = len(self._positive_index)
        if hits == num_positives:
            return
        self._refuse_absent_positives()
        raise RuntimeError(
            f"{hits} of {num_positives} positives met their own score: the rows of the blocks are not equal to "
            "positive_embeddings"
        )

    def _refuse_incomplete(self, num_candidates: int) -> None:
        reached = 0
        for first, end in self._ranges:
            if first > reached:
                break
            reached = end
        if reached < num_candidates:
            following = [first for first, _ in self._ranges if first > reached]
            last = min([num_candidates, *following]) - 1
            raise ValueError(
                f"num_candidates: candidates {reached} to {last} of {num_candidates} are in no block added"
            )
        if self._ranges and self._ranges[-1][1] > num_candidates:
            last = self._ranges[-1][1] - 1
            raise ValueError(f"num_candidates: expected {num_candidates}, but candidate {last} was counted")

    def _refuse_absent_positives(self) -> None:
        index_P = self._positive_index.cpu()
        met_P = torch.zeros(len(index_P), dtype=torch.bool)
        for first, end in self._ranges:
            met_P |= (index_P >= first) & (index_P < end)
        if not bool(met_P.all()):
            place = int((~met_P).nonzero()[0])
            raise ValueError(f"positive_index: entry {place}, candidate {int(index_P[place])}, is in no block added")

    def _identity(self) -> dict[str, object]:
        """What counters must have in common for their counts to be of the same things; small, and picklable."""
        tensors = {
            "positive_offsets": self._offsets,
            "positive_index": self._positive_index,
            "thresholds": self._thresholds,
        }
        digests = {name: hashlib.sha256(tensor.cpu().numpy().tobytes()).hexdigest() for name, tensor in tensors.items()}
        options = {"backend": self.backend, "precision": self._precision, "num_groups": self._num_groups}
        return {**options, "best": 0 if self._best is None else self._best.scores.size(1), **digests}


def _refuse_unlike(name: str, identity: dict[str, object], expected: dict[str, object]) -> None:
    for key, value in expected.items():
        if identity[key] == value:
            continue
        if key in ("backend", "precision", "num_groups", "best"):
            raise ValueError(f"{name}: {key} is {identity[key]}, here {value}")
        raise ValueError(f"{name}: counts for other queries or positives ({key} differ)")


def _check_precision_of(queries: Tensor, precision: str) -> None:
    if isinstance(queries, Tensor) and queries.dtype in CODE_DTYPES and precision != "fp32":
        raise ValueError(f"precision: {precision} rounds floating embeddings; codes are exact as they are")


def _check_best(best: int, precision: str) -> None:
    if best < 0:
        raise ValueError(f"best: expected 0 or more, got {best}")
    if best and precision != "fp32":
        raise ValueError(f"best: candidates are kept by their fp32 scores, but precision is {precision}")


def _check_positives(
    queries: Tensor,
    positive_embeddings: Tensor,
    positive_index: Tensor,
    positive_offsets: Tensor,
    positive_rows: Tensor | None,
    values: checks.ValueChecks,
) -> None:
    checks.check_embeddings("queries", queries)
    checks.check_embeddings("positive_embeddings", positive_embeddings, width=queries.size(1))
    checks.check_same_codes("positive_embeddings", positive_embeddings, queries)
    checks.check_integers("positive_index", positive_index)
    num_positives = len(positive_index)
    if positive_rows is None and len(positive_embeddings) != num_positives:
        raise ValueError(f"positive_embeddings: expected {num_positives} rows, got {len(positive_embeddings)}")
    checks.check_integers("positive_offsets", positive_offsets, length=len(queries) + 1)
    tensors = {"positive_embeddings": positive_embeddings, "positive_index": positive_index}
    tensors["positive_offsets"] = positive_offsets
    if positive_rows is not None:
        checks.check_integers("positive_rows", positive_rows, length=num_positives)
        tensors["positive_rows"] = positive_rows
    for name, tensor in tensors.items():
        checks.check_device(name, tensor, queries.device)
    values.offsets("positive_offsets", positive_offsets, num_positives)
    values.in_range("positive_index", positive_index, checks.INDEX_LIMIT - 1)
    if positive_rows is not None:
        values.in_range("positive_rows", positive_rows, len(positive_embeddings))


def _same_dtype(queries: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    if queries.dtype == rows.dtype:
        return queries, rows
    return queries.to(torch.float32), rows.to(torch.float32)


def _like(array: np.ndarray) -> Tensor:
    """A tensor without data, of the array's shape and dtype."""
    return torch.from_numpy(np.empty(0, array.dtype)).new_empty(array.shape, device="meta")


def _on_device(block: Tensor | np.ndarray, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """The block in slices that lie on `device`: (first row, rows)."""
    if isinstance(block, Tensor) and block.device == device:
        yield 0, block
        return
    step = max(1, _COPY_BYTES // max(1, 4 * block.shape[1]))
    for start in range(0, len(block), step):
        rows = block[start : start + step]
        # A copy: the array may be a read-only memory map.
        yield start, (rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))).to(device)
