"""The ways to compute InfoNCE and its gradients that bench_contrastive.py compares.

Shapes: B queries and as many candidates, H embedding width; b rows of a slab.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from measure import Contender
from torch import Tensor

from hybatch.losses import ContrastiveInputs, dense_info_nce
from hybatch.losses.truncation import truncated
from hybatch.ops import contrastive_terms, info_nce
from hybatch.ops.backend import BACKENDS, DEVICES, choose_backend, why_missing

TEMPERATURE = 0.05
SLAB_BYTES = {"cpu": 2**26, "cuda": 2**30}
"""Of the floor's products: large enough for the full rate of the device."""
MINI_BATCH = 256
MINI_BATCHED = f"as sentence-transformers' cached loss, {MINI_BATCH} rows at a time"
LIGER = "Liger fused linear cross entropy"
DENSE_MATRICES = 4
"""Matrices of all logits that the dense loss holds at its peak, or nearly: logits, masked copy, softmax, gradient."""
FORWARD, BOTH, SYMMETRIC = "forward", "forward + backward", "forward + backward, symmetric"
PRODUCTS = {FORWARD: 1, BOTH: 3, SYMMETRIC: 4}
"""Matrix products of the work: the logits, both gradients, and symmetric the logits again for the gradients."""


@dataclass(frozen=True)
class Problem:
    queries: Tensor  # [B, H]
    candidates: Tensor  # [B, H]; row i is the positive of query i

    def options(self) -> dict[str, Tensor | float]:
        rows_B = torch.arange(len(self.queries), device=self.queries.device)
        labels = {"positive_index_Q": rows_B, "query_groups_Q": rows_B, "candidate_groups_D": rows_B}
        return {**labels, "temperature": TEMPERATURE}


def make_problem(size: int, width: int, device: torch.device, dtype: torch.dtype) -> Problem:
    """Random unit rows; candidates lean towards their queries, as after some training."""
    generator = torch.Generator(device).manual_seed(0)

    def unit_rows() -> Tensor:
        rows = torch.randn(size, width, generator=generator, device=device)
        return F.normalize(rows, dim=1)

    queries = unit_rows()
    candidates = F.normalize(queries + 2 * unit_rows(), dim=1)
    return Problem(queries.to(dtype).requires_grad_(), candidates.to(dtype).requires_grad_())


@dataclass(frozen=True)
class LeftOut:
    """A contender that cannot run here, and why."""

    name: str
    reason: str


def contenders(
    problem: Problem, what: str, rounds: int, dimensions: Sequence[int] = ()
) -> Iterator[Contender | LeftOut]:
    """All that there are, the floor first; the slower of the public alternatives in fewer rounds.

    Args:
        dimensions: also time the losses of so many leading dimensions together.
    """
    products = PRODUCTS[what]
    floor = f"{products} matrix product{'s' if products > 1 else ''}"
    yield Contender(floor, matrix_products(problem, products))
    device = problem.queries.device
    if DENSE_MATRICES * 4 * len(problem.queries) ** 2 < _free_bytes(device) / 2:
        yield Contender("dense PyTorch", _stepping(problem, _dense, what), floor)
    else:
        yield LeftOut("dense PyTorch", f"its matrices would not fit at B = {len(problem.queries)}")
    for backend in BACKENDS:
        if DEVICES.get(backend, device.type) != device.type:
            continue
        name = "hybatch torch (streaming)" if backend == "torch" else f"hybatch {backend}"
        if (reason := why_missing(backend, "contrastive")) is not None:
            yield LeftOut(name, reason)
            continue
        assert choose_backend(device, backend, "contrastive") == backend
        yield Contender(name, _stepping(problem, _hybatch(backend), what), floor)
        if what == SYMMETRIC:
            yield Contender(f"{name}, one loss each way", _stepping(problem, _each_way(backend), what), floor)
        if dimensions:
            yield from _of_dimensions(problem, what, name, backend, dimensions, floor)
    yield Contender(MINI_BATCHED, mini_batched(problem, what), floor, rounds=min(rounds, 3))
    if what == BOTH:
        reason = _why_no_liger(device)
        yield LeftOut(LIGER, reason) if reason else Contender(LIGER, liger(problem), floor)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.empty_cache()  # or what earlier contenders have given back would count as taken
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def matrix_products(problem: Problem, count: int) -> Callable[[], object]:
    """Only the products, slab by slab into one buffer: logits, and as many of both gradients' as are counted."""
    queries, candidates = problem.queries.detach(), problem.candidates.detach()
    rows = max(64, SLAB_BYTES[queries.device.type] // (4 * len(candidates)))
    buffer = torch.empty(min(rows, len(queries)) * len(candidates), dtype=queries.dtype, device=queries.device)

    def run() -> None:
        for_candidates = torch.zeros_like(candidates) if count > 1 else None
        for queries_bH in queries.split(rows):
            logits_bB = buffer[: len(queries_bH) * len(candidates)].view(len(queries_bH), len(candidates))
            for _ in range(count - 2 if count > 1 else 1):
                torch.mm(queries_bH, candidates.T, out=logits_bB)
            if for_candidates is not None:
                torch.mm(logits_bB, candidates)
                for_candidates.addmm_(logits_bB.T, queries_bH)

    return run


Loss = Callable[[Problem, bool], Tensor]


def _stepping(problem: Problem, loss: Loss, what: str) -> Callable[[], object]:
    """Run a loss, with its backward pass if that is part of the work; gradients are left to the collector."""

    def run() -> object:
        if what == FORWARD:
            with torch.no_grad():
                return loss(problem, False)
        return torch.autograd.grad(loss(problem, what == SYMMETRIC), (problem.queries, problem.candidates))

    return run


def _dense(problem: Problem, symmetric: bool) -> Tensor:
    if not symmetric:
        sides = {"queries_QH": problem.queries, "candidates_DH": problem.candidates}
        return dense_info_nce(ContrastiveInputs(**sides, **problem.options()))
    logits_BB = problem.queries.float() @ problem.candidates.float().T / TEMPERATURE
    rows_B = torch.arange(len(logits_BB), device=logits_BB.device)
    entropies = [F.cross_entropy(side, rows_B, reduction="sum") for side in (logits_BB, logits_BB.T)]
    return (entropies[0] + entropies[1]) / 2


def _hybatch(backend: str) -> Loss:
    def loss(problem: Problem, symmetric: bool) -> Tensor:
        options = {**problem.options(), "validate": False, "backend": backend}
        if not symmetric:
            return info_nce(problem.queries, problem.candidates, **options)
        terms = contrastive_terms(problem.queries, problem.candidates, columns=True, **options)
        assert terms.column_lse_D is not None
        return ((terms.row_lse_Q + terms.column_lse_D) / 2 - terms.positive_logit_Q).sum()

    return loss


def _each_way(backend: str) -> Loss:
    """The symmetric loss as two losses, each with its own logits."""

    def loss(problem: Problem, symmetric: bool) -> Tensor:
        options = {**problem.options(), "validate": False, "backend": backend}
        sides = (problem.queries, problem.candidates)
        return (info_nce(*sides, **options) + info_nce(*sides[::-1], **options)) / 2

    return loss


def _of_dimensions(
    problem: Problem, what: str, name: str, backend: str, dimensions: Sequence[int], floor: str
) -> Iterator[Contender]:
    """The losses of leading dimensions, cut from the embeddings, and of rows that have these widths already."""
    loss, widths = _hybatch(backend), " + ".join(map(str, dimensions))

    def cut(problem: Problem, symmetric: bool) -> Tensor:
        sides = ([truncated(rows, width) for rows in (problem.queries, problem.candidates)] for width in dimensions)
        return torch.stack([loss(Problem(*pair), symmetric) for pair in sides]).sum()

    yield Contender(f"{name}, dimensions {widths}", _stepping(problem, cut, what), floor)
    device, dtype = problem.queries.device, torch.promote_types(problem.queries.dtype, torch.float32)
    ready = [make_problem(len(problem.queries), width, device, dtype) for width in dimensions]
    each = [_stepping(one, loss, what) for one in ready]
    yield Contender(f"{name}, rows of width {widths}", lambda: [run() for run in each], floor)


def mini_batched(problem: Problem, what: str) -> Callable[[], Tensor]:
    """What CachedMultipleNegativesRankingLoss computes once it has the embeddings.

    Cosine similarities of some rows with everything, in the embeddings' dtype, their log-sum-exp, and the backward pass
    of these rows before the next; symmetric: likewise from the other side, and the mean of both log-sum-exps.
    """

    def similarities(rows: Tensor, others: Tensor) -> Tensor:
        return F.normalize(rows, dim=1) @ F.normalize(others, dim=1).T / TEMPERATURE

    def run() -> Tensor:
        queries, candidates = problem.queries, problem.candidates
        queries.grad = candidates.grad = None
        total = torch.zeros((), device=queries.device)
        for start in range(0, len(queries), MINI_BATCH):
            rows = slice(start, start + MINI_BATCH)
            with torch.set_grad_enabled(what != FORWARD):
                scores = similarities(queries[rows], candidates)
                log_sums = torch.logsumexp(scores, 1)
                if what == SYMMETRIC:
                    log_sums = (log_sums + torch.logsumexp(similarities(candidates[rows], queries), 1)) / 2
                value = (log_sums - scores.diagonal(start)).sum() / len(queries)
            if what != FORWARD:
                value.backward()
            total += value.detach()
        return total

    return run


def _why_no_liger(device: torch.device) -> str | None:
    if device.type != "cuda":
        return "its kernels need a GPU"
    missing = [name for name in ("triton", "liger_kernel") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else None


def liger(problem: Problem) -> Callable[[], object]:
    """Candidates take the place of the output layer's weights, and each query's positive that of its next token."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    rows_B = torch.arange(len(problem.queries), device=problem.queries.device)

    def run() -> object:
        value = loss(problem.candidates, problem.queries / TEMPERATURE, rows_B)
        return torch.autograd.grad(value, (problem.queries, problem.candidates))

    return run
