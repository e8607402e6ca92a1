"""The ring in real processes, against one process that holds the whole batch in float64.

Shape suffixes: Q queries of a process, B of the batch, N hard-negative slots, D candidates, H embedding width.
"""

from __future__ import annotations

import itertools
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hybatch.losses import EMPTY_SLOT, ContrastiveInputs, ContrastiveLoss, ring_terms
from hybatch.processes import world_size
from tests.ops.contrastive.oracle import EPSILON, Problem, Reference, make_problem, reference
from tests.processes import run_processes

BATCH = 12
WIDTH = 24


@dataclass(frozen=True)
class Case:
    """Attributes:
    num_groups: few leave whole blocks without a negative.
    peak: the largest logits, about.
    """

    slots: int
    num_groups: int
    peak: float
    symmetric: bool

    def problem(self) -> Problem:
        """The whole batch: candidates are the passages, then the negatives query by query."""
        size = BATCH * (1 + self.slots)
        made = make_problem(3, BATCH, size, WIDTH, num_groups=self.num_groups, peak=self.peak)
        made.positive_index.copy_(torch.arange(BATCH))
        made.candidate_groups[:BATCH] = made.query_groups
        # The logits reach the peak, at both ends.
        made.candidates[0], made.candidates[1] = made.queries[0], -made.queries[1]
        made.candidates[5] = made.queries[9]
        return made

    def truth(self) -> tuple[float, Reference]:
        """Loss of the whole batch and its gradients, in float64."""
        problem = self.problem()
        share = 0.5 if self.symmetric else 1.0
        ones_B = torch.ones(BATCH, dtype=torch.float64) / BATCH
        grad_column = torch.zeros(len(problem.candidates), dtype=torch.float64)
        grad_column[:BATCH] = ones_B / 2
        true = reference(problem, ones_B * share, -ones_B, grad_column if self.symmetric else None)
        loss = share * true.row_lse.sum() - true.positive_logit.sum()
        if self.symmetric:
            loss = loss + true.column_lse[:BATCH].sum() / 2
        return float(loss / BATCH), true


CASES = [
    Case(*case) for case in itertools.product((0, 2), (1, 3, 1000), (1.0, 200.0), (False, True))
]  # one group: no negatives but hard ones of unknown group


@dataclass(frozen=True)
class Found:
    """Of one process: its loss and the gradients of its queries, passages and hard negatives."""

    loss: Tensor
    gradients: tuple[Tensor, Tensor, Tensor]


def _loss_of_own_rows(case: Case, dtype: torch.dtype) -> Found:
    problem = case.problem()
    count = BATCH // world_size()
    own = slice(dist.get_rank() * count, (dist.get_rank() + 1) * count)
    passages, negatives = problem.candidates[:BATCH], problem.candidates[BATCH:].view(BATCH, case.slots, WIDTH)
    leaves = [rows[own].to(dtype, copy=True).requires_grad_() for rows in (problem.queries, passages, negatives)]
    loss = ContrastiveLoss(temperature=problem.temperature, symmetric=case.symmetric, gather="ring")(
        leaves[0],
        leaves[1],
        leaves[2] if case.slots else None,
        groups_Q=problem.query_groups[own],
        negative_groups_QN=problem.candidate_groups[BATCH:].view(BATCH, case.slots)[own] if case.slots else None,
    )
    loss.backward()
    gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    return Found(loss.detach(), tuple(gradients))


def _one_not_finite() -> Tensor:
    """The loss where one passage of the last process is not finite."""
    queries, passages = (torch.nn.functional.normalize(torch.randn(3, 4), dim=1) for _ in range(2))
    if dist.get_rank() == world_size() - 1:
        passages[1, 2] = float("nan")
    groups = torch.arange(3) + 3 * dist.get_rank()
    return ContrastiveLoss(temperature=0.1, gather="ring")(queries, passages, groups_Q=groups)


class _HeldRows(TorchDispatchMode):
    """The most rows of embeddings, or of their gradients, that lived at once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.peak = 0
        self._width = width
        self._seen: list[weakref.ref[Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = (leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        self._seen += [weakref.ref(tensor) for tensor in tensors if tensor.dim() == 2]
        self._seen = [seen for seen in self._seen if seen() is not None]
        alive = (seen() for seen in self._seen)
        rows = {t.untyped_storage().data_ptr(): len(t) for t in alive if t is not None and t.shape[1] == self._width}
        self.peak = max(self.peak, sum(rows.values()))
        return result


BLOCK, FEW = 60, 2


def _held_rows() -> int:
    queries, candidates = torch.randn(FEW, WIDTH), torch.randn(BLOCK, WIDTH)
    with _HeldRows(WIDTH) as held:
        leaves = [(rows * 1.0).requires_grad_() for rows in (queries, candidates)]
        inputs = ContrastiveInputs(
            queries_QH=leaves[0],
            candidates_DH=leaves[1],
            positive_index_Q=torch.arange(FEW),
            query_groups_Q=torch.arange(FEW),
            candidate_groups_D=torch.full((BLOCK,), EMPTY_SLOT + 1),
            temperature=1.0,
        )
        terms = ring_terms(inputs, columns=True)
        assert terms.column_lse_D is not None
        torch.autograd.grad(terms.row_lse_Q.sum() + terms.column_lse_D.sum(), leaves)
    return held.peak


def _everything() -> dict[str, Any]:
    found = {
        (case, dtype): [_loss_of_own_rows(case, dtype) for _ in range(2)]
        for case in CASES
        for dtype in (torch.float32, torch.float64)
    }
    alone = world_size() == 1
    return {"found": found, "not finite": _one_not_finite(), "held": None if alone else _held_rows()}


@pytest.fixture(scope="module", params=[1, 2, 3, pytest.param(4, marks=pytest.mark.slow)])
def processes(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What each of so many processes has found."""
    return run_processes(_everything, request.param)


def _joined(processes: list[dict[str, Any]], case: Case, dtype: torch.dtype) -> tuple[float, Tensor, Tensor]:
    """Loss of the batch, gradients of queries and candidates: strategies average over processes."""
    of_ranks = [process["found"][case, dtype][0] for process in processes]
    loss = torch.stack([found.loss for found in of_ranks]).mean()
    queries, passages, negatives = (
        torch.cat([found.gradients[part] for found in of_ranks]).double() / len(processes) for part in range(3)
    )
    return float(loss), queries, torch.cat([passages, negatives.flatten(0, 1)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_together_the_processes_hold_the_loss_and_the_gradients_of_the_whole_batch(
    processes: list[dict[str, Any]], dtype: torch.dtype
) -> None:
    epsilon = EPSILON if dtype == torch.float32 else 2.0**-53
    for case in CASES:
        true_loss, true = case.truth()
        loss, *gradients = _joined(processes, case, dtype)
        relative = 8 * epsilon * (1 + true.largest_logit)
        assert abs(loss - true_loss) <= 2 * relative + WIDTH * epsilon * case.peak, case
        exact = (true.grad_queries, true.grad_candidates)
        for mine, wanted, size in zip(gradients, exact, true.sizes, strict=False):
            assert (mine - wanted).norm() <= relative * size, case


def test_repetition_gives_the_same_bits(processes: list[dict[str, Any]]) -> None:
    for process in processes:
        for once, again in process["found"].values():
            assert torch.equal(once.loss, again.loss)
            assert all(map(torch.equal, once.gradients, again.gradients))


def test_an_embedding_that_is_not_finite_spoils_the_loss_of_every_process(processes: list[dict[str, Any]]) -> None:
    assert not any(process["not finite"].isfinite() for process in processes)


def test_a_process_holds_three_blocks_and_three_gradients_of_blocks_however_many_there_are(
    processes: list[dict[str, Any]],
) -> None:
    if len(processes) == 1:
        pytest.skip("one process alone passes nothing round")
    for process in processes:
        assert 3 * BLOCK <= process["held"] <= 6 * BLOCK + 10 * FEW


def test_alone_the_ring_is_the_streaming_loss() -> None:
    problem = CASES[-1].problem()
    labels = {"groups_Q": problem.query_groups}
    rows = (problem.queries, problem.candidates[:BATCH])
    streaming = ContrastiveLoss(temperature=0.1, symmetric=True, implementation="streaming")(*rows, **labels)
    assert torch.equal(ContrastiveLoss(temperature=0.1, symmetric=True, gather="ring")(*rows, **labels), streaming)
