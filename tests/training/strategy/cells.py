"""A tiny transformer under any strategy, in processes that the test started: what the equality tests compare."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybatch.losses import ContrastiveLoss
from hybatch.processes import rank, sum_over_processes, world_size
from hybatch.training.step.batches import BatchLoader
from hybatch.training.step.caching import cached_backward, plain_backward
from hybatch.training.step.chunks import Cutting
from hybatch.training.step.optimizer import build_adamw
from hybatch.training.strategy import PreparedEngine, Strategy, build_strategy
from hybatch.training.strategy.deepspeed import import_deepspeed
from hybatch.training.strategy.deepspeed_options import engine_options
from hybatch.training.strategy.text_chunk import Features
from tests.training.tiny import VOCABULARY, TinySampler, tokenize

BATCH_SIZE = 12
LEARNING_RATE = 1e-2
STEPS = 5


class TinyLayer(nn.Module):
    """Self-attention and a feed-forward part, each behind a norm. No biases where the gradient would be 0."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norms = nn.ModuleDict({"attention": nn.LayerNorm(width), "mix": nn.LayerNorm(width)})
        self.projections = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.mix = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, 7))
        self.widen = nn.Linear(7, width)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        heads = self.projections(self.norms["attention"](hidden)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (2, -1)).transpose(1, 2) for part in heads)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None], dropout_p=dropout)
        hidden = hidden + self.out(mixed.transpose(1, 2).flatten(2))
        return hidden + self.widen(self.mix(self.norms["mix"](hidden)))


class TinyTransformer(nn.Module):
    """Two layers over words, the mean of them; a frozen part that nothing uses, as the pooler of a backbone."""

    def __init__(self, *, dropout: float, width: int = 12) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(VOCABULARY, width)
        self.layers = nn.ModuleList(TinyLayer(width, dropout) for _ in range(2))
        self.pooler = nn.Linear(width, width).requires_grad_(False)

    def forward(self, features: Features) -> Tensor:
        mask = features["attention_mask"].bool()
        hidden = self.words(features["input_ids"])
        for layer in self.layers:
            hidden = layer(hidden, mask)
        weights = mask.unsqueeze(-1).float()
        return F.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


@dataclass(frozen=True)
class Cell:
    """One way to train.

    Attributes:
        max_norm: far below every gradient norm here, or None.
    """

    cached: bool = False
    dropout: float = 0.0
    max_norm: float | None = None

    @property
    def chunk_size(self) -> int | None:
        """Half a process's queries at once. With dropout plain and cached steps must draw for the same chunks."""
        return -(-BATCH_SIZE // (2 * world_size())) if self.cached or self.dropout else None

    @property
    def ring(self) -> bool:
        """Of the clipped cells one cached and one plain."""
        return self.max_norm is not None and self.cached != bool(self.dropout)

    def build_loss(self) -> ContrastiveLoss:
        """Batches as small as these would be dense by default: the cached cells stream, and the ring does."""
        if self.ring:
            return ContrastiveLoss(temperature=0.05, symmetric=True, gather="ring")
        return ContrastiveLoss(temperature=0.05, symmetric=True, implementation="streaming" if self.cached else "dense")


CELLS = [Cell(cached, dropout, norm) for dropout in (0.0, 0.3) for norm in (None, 0.05) for cached in (False, True)]


def tiny_strategy(name: str, dropout: float = 0.0, **zero: Any) -> Strategy:
    """A fresh tiny transformer under a strategy; "-offload" after the name puts DeepSpeed's states on the CPU."""
    name, _, offload = name.partition("-")
    options: dict[str, Any] = {}
    if name.startswith("zero"):
        import_deepspeed()
        # Buckets smaller than the model, so that several are used.
        zero = {"stage": int(name[-1]), "reduce_bucket_size": 500, "allgather_bucket_size": 500} | zero
        if zero["stage"] == 3:
            zero |= {"stage3_param_persistence_threshold": 20, "stage3_prefetch_bucket_size": 500}
        if offload:
            zero["offload_optimizer"] = {"device": "cpu"}
            if zero["stage"] == 3:
                zero["offload_param"] = {"device": "cpu"}
        given = {"zero_optimization": zero}
        options = engine_options(given, batch_size=BATCH_SIZE, processes=world_size(), max_grad_norm=None)
    build_optimizer = partial(build_adamw, learning_rate=1.0, weight_decay=1e-2, betas=(0.9, 0.999), epsilon=1e-8)
    return build_strategy(
        name,
        TinyTransformer(dropout=dropout).train(),
        build_optimizer,
        prepared=PreparedEngine("", world_size(), {}, {}),
        deepspeed_options=options,
        autocast_dtype=None,
    )


def tiny_loader(strategy: Strategy, chunk_size: int | None) -> BatchLoader:
    sampler: Any = TinySampler(batch_size=BATCH_SIZE, num_groups=20, num_negatives=2)
    return BatchLoader(
        sampler=sampler,
        tokenize=tokenize,
        rank=rank(),
        world_size=world_size(),
        cutting=Cutting(chunk_size=chunk_size, equal_chunks=strategy.equal_chunks),
        hard_negatives=2,
        seed=5,
    )


def whole_gradients(strategy: Strategy) -> dict[str, Tensor]:
    """Every gradient, whole, before `apply_gradients`; collective."""
    found = {}
    for name, parameter in strategy.encoder.named_parameters():
        if not parameter.requires_grad:
            continue
        if strategy.name == "zero3":
            from deepspeed.utils import safe_get_full_grad

            gradient = safe_get_full_grad(parameter)
        elif strategy.name.startswith("zero"):
            gradient = parameter.get_full_hp_grad()  # type: ignore[attr-defined]
        else:
            gradient = parameter.grad
            if strategy.name == "fsdp2":
                gradient = gradient.full_tensor()  # type: ignore[union-attr]
        found[name] = gradient.detach().clone()
    return found


def train_steps(strategy: Strategy, cell: Cell, steps: range) -> tuple[list[float], list[float], dict[str, Tensor]]:
    """Losses of the global batches, gradient norms and the gradients of step 0."""
    loss = cell.build_loss()
    loader = tiny_loader(strategy, cell.chunk_size)
    losses, norms = [], []
    gradients = {}
    for step in steps:
        value = (cached_backward if cell.cached else plain_backward)(strategy, loss, loader.load(step))
        if step == 0:
            gradients = whole_gradients(strategy)
        losses.append(sum_over_processes(value).item() / world_size())
        norms.append(strategy.apply_gradients(learning_rate=LEARNING_RATE, max_norm=cell.max_norm))
    return losses, norms, gradients


def run_cells(
    name: str, cells: list[Cell]
) -> list[tuple[list[float], list[float], dict[str, Tensor], dict[str, Tensor]]]:
    """Losses, norms, gradients of the first step and final weights (on the main process) of every cell."""
    results = []
    for cell in cells:
        strategy = tiny_strategy(name, cell.dropout)
        results.append((*train_steps(strategy, cell, range(STEPS)), strategy.state_dict()))
    return results
