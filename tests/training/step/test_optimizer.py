"""What decays, and that the fused kernel computes AdamW."""

from __future__ import annotations

import torch

from hybatch.training.step.optimizer import build_adamw
from tests.training.tiny import TinyEncoder


def test_biases_norms_and_frozen_parameters_do_not_decay() -> None:
    encoder = TinyEncoder()
    encoder.words.weight.requires_grad_(False)
    optimizer = build_adamw(encoder, learning_rate=1.0, weight_decay=0.5, betas=(0.9, 0.99), epsilon=1e-8)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {
        id(p): 0.5 if name.startswith("mix") and name.endswith("weight") else 0.0
        for name, p in encoder.named_parameters()
        if p.requires_grad
    }
    assert decay == expected


def test_one_step_follows_the_definition() -> None:
    layer = torch.nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    gradient = layer.weight.grad.clone()
    build_adamw(layer, learning_rate=0.1, weight_decay=0.2, betas=(0.9, 0.99), epsilon=1e-8).step()
    # After one step both moments, corrected for their start at zero, are the gradient and its square.
    expected = before * (1 - 0.1 * 0.2) - 0.1 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(layer.weight.detach(), expected)
