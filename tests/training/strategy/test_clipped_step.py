"""The clipped step against its definition in float64, and the same of parameters that processes hold shards of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from hybatch.training.strategy.clipped_step import clipped_step, whole_tensor
from tests.processes import run_processes

GRADIENTS = [[[3.0, -1.0], [0.5, 2.0]], [[0.0, -4.0], [1.0, 1.0]]]
LEARNING_RATE = 0.25


def _stepped(max_norm: float | None, scale: float = 1.0, *, sharded: bool = False) -> tuple[float, list[Tensor]]:
    """The norm and the weights after a step of plain gradient descent from ones."""
    weights = [torch.ones(2, 2), torch.ones(2, 2)]
    gradients = [scale * torch.tensor(gradient) for gradient in GRADIENTS]
    if sharded:
        mesh = init_device_mesh("cpu", (2,))
        weights, gradients = ([distribute_tensor(t, mesh, [Shard(0)]) for t in of] for of in (weights, gradients))
    module = nn.ParameterList(nn.Parameter(weight) for weight in [*weights, torch.ones(3)])
    for parameter, gradient in zip(module, gradients, strict=False):  # the last one has none
        parameter.grad = gradient
    optimizer = torch.optim.SGD(module.parameters(), lr=1e9)
    norm = clipped_step(module, optimizer, learning_rate=LEARNING_RATE, max_norm=max_norm)
    assert all(parameter.grad is None for parameter in module)
    return norm, [whole_tensor(parameter.detach()) for parameter in module]


@pytest.mark.parametrize("max_norm", [None, 1.0, 100.0])
def test_the_step_is_that_of_gradients_of_at_most_the_norm(max_norm: float | None) -> None:
    found, weights = _stepped(max_norm)
    gradients = np.array(GRADIENTS)
    norm = np.sqrt((gradients**2).sum())
    share = 1.0 if max_norm is None else min(1.0, max_norm / norm)
    assert found == pytest.approx(norm, rel=1e-6)
    for weight, gradient in zip(weights, gradients, strict=False):
        np.testing.assert_allclose(weight.numpy(), 1 - LEARNING_RATE * share * gradient, rtol=1e-5)
    assert torch.equal(weights[2], torch.ones(3))


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_changes_no_weight(scale: float) -> None:
    norm, weights = _stepped(1.0, scale)
    assert not math.isfinite(norm)
    assert all(torch.equal(weight, torch.ones_like(weight)) for weight in weights)


def test_shards_are_clipped_by_the_norm_over_all_processes() -> None:
    norm, weights = _stepped(1.0)
    for found, shards in run_processes(_stepped_in_shards, 2):
        assert found == pytest.approx(norm, rel=1e-6)
        for shard, weight in zip(shards, weights, strict=True):
            torch.testing.assert_close(shard, weight)


def _stepped_in_shards() -> tuple[float, list[Tensor]]:
    return _stepped(1.0, sharded=True)
