"""The ways to compute InfoNCE and its gradients that bench_contrastive.py compares.

Shapes: B queries and as many candidates, H embedding width; b rows of a slab.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from measure import Contender
from torch import Tensor

from hybatch.losses import dense_info_nce
from hybatch.ops import contrastive_terms, info_nce
from hybatch.ops.backend import BACKENDS, choose_backend, why_missing

TEMPERATURE = 0.05
SLAB_BYTES = 2**26
DENSE_MATRICES = 4
"""Matrices of all logits that the dense loss holds at its peak, or nearly: logits, masked copy, softmax, gradient."""
FORWARD, BOTH, SYMMETRIC = "forward", "forward + backward", "forward + backward, symmetric"


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
        return torch.nn.functional.normalize(rows, dim=1)

    queries = unit_rows()
    candidates = torch.nn.functional.normalize(queries + 2 * unit_rows(), dim=1)
    return Problem(queries.to(dtype).requires_grad_(), candidates.to(dtype).requires_grad_())


def contenders(problem: Problem, what: str, rounds: int) -> Iterator[Contender]:
    """All that can run here, the floor first; the slower of the public alternatives in fewer rounds."""
    products = {FORWARD: 1, BOTH: 3, SYMMETRIC: 4}[what]
    floor = f"{products} matrix product{'s' if products > 1 else ''}"
    yield Contender(floor, matrix_products(problem, products))
    device = problem.queries.device
    if DENSE_MATRICES * 4 * len(problem.queries) ** 2 < _free_bytes(device) / 2:
        yield Contender("dense PyTorch", _stepping(problem, _dense, what), floor)
    for backend in BACKENDS:
        if why_missing(backend, "contrastive") is None and backend in ("torch", device.type):
            assert choose_backend(device, backend, "contrastive") == backend
            name = "hybatch torch (streaming)" if backend == "torch" else f"hybatch {backend}"
            yield Contender(name, _stepping(problem, _hybatch(backend), what), floor)
    if what == BOTH and problem.queries.dtype == torch.float32 and importlib.util.find_spec("sentence_transformers"):
        yield Contender("sentence-transformers cached", cached_loss(problem), floor, rounds=min(rounds, 3))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def matrix_products(problem: Problem, count: int) -> Callable[[], object]:
    """Only the products, slab by slab into one buffer: logits, and as many of both gradients' as are counted."""
    queries, candidates = problem.queries.detach(), problem.candidates.detach()
    rows = max(64, SLAB_BYTES // (4 * len(candidates)))
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
        return dense_info_nce(problem.queries, problem.candidates, **problem.options())
    logits_BB = problem.queries.float() @ problem.candidates.float().T / TEMPERATURE
    rows_B = torch.arange(len(logits_BB), device=logits_BB.device)
    entropies = [torch.nn.functional.cross_entropy(side, rows_B, reduction="sum") for side in (logits_BB, logits_BB.T)]
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


def cached_loss(problem: Problem) -> Callable[[], object]:
    """The loss stage of CachedMultipleNegativesRankingLoss on ready embeddings, in slabs of 256 rows."""
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    loss = CachedMultipleNegativesRankingLoss(
        torch.nn.Sequential(torch.nn.Identity()), scale=1 / TEMPERATURE, mini_batch_size=256
    )

    def run() -> None:
        problem.queries.grad = problem.candidates.grad = None
        loss.calculate_loss([[problem.queries], [problem.candidates]], with_backward=True)

    return run
