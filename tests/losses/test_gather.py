"""The gather and its gradient, in real processes."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from hybatch.losses import exchange_with_gradient, gather, gather_with_gradient
from tests.processes import run_processes


def _weighted_sum_gradient() -> tuple[torch.Tensor, torch.Tensor]:
    rank, size = dist.get_rank(), dist.get_world_size()
    local = torch.full((2, 3), float(rank), requires_grad=True)
    joined = gather_with_gradient(local)
    weights = torch.arange(joined.numel(), dtype=torch.float32).view_as(joined)
    # Each process weighs the joined rows differently; the sum over processes is what must come back.
    (joined * weights * (rank + 1)).sum().backward()
    assert local.grad is not None
    expected = weights[2 * rank : 2 * rank + 2] * sum(r + 1 for r in range(size))
    return local.grad, expected


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_gradient_of_each_row_is_the_sum_over_all_processes(world_size: int) -> None:
    for gradient, expected in run_processes(_weighted_sum_gradient, world_size):
        assert torch.equal(gradient, expected)


def _gather_ids() -> torch.Tensor:
    return gather(torch.tensor([10 * dist.get_rank(), 2**40 + dist.get_rank()]))


def test_integer_ids_arrive_whole_and_in_rank_order() -> None:
    for ids in run_processes(_gather_ids, 2):
        assert ids.tolist() == [0, 2**40, 10, 2**40 + 1]


def _exchanged() -> tuple[torch.Tensor, torch.Tensor]:
    rank = dist.get_rank()
    outgoing = torch.tensor([[10.0 * rank, 1.0], [10.0 * rank + 1, 1.0]], requires_grad=True)
    incoming = exchange_with_gradient(outgoing)
    (incoming * (rank + 1)).sum().backward()
    assert outgoing.grad is not None
    return incoming.detach(), outgoing.grad


def test_an_exchange_brings_every_process_what_the_others_have_for_it_and_the_gradients_back() -> None:
    for rank, (incoming, gradient) in enumerate(run_processes(_exchanged, 2)):
        assert incoming.tolist() == [[rank, 1.0], [10.0 + rank, 1.0]]
        assert gradient.tolist() == [[1.0, 1.0], [2.0, 2.0]]


def test_without_a_process_group_the_gather_is_the_identity() -> None:
    local = torch.randn(3, 2, requires_grad=True)
    assert gather_with_gradient(local) is local
    assert gather(local) is local
    assert exchange_with_gradient(local[:1]).tolist() == local[:1].tolist()
