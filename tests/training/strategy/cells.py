"""A tiny transformer under any strategy, in processes that the test started: what the equality tests compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hybatch.losses import AlignmentConfig, ContrastiveLoss, FilterConfig, TeacherConfig
from hybatch.losses.info_nce import Implementation
from hybatch.losses.several_positives import Form
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, Role
from hybatch.models.backbone.fresh import fresh_backbone
from hybatch.models.lora.config import LoraConfig
from hybatch.models.lora.targets import target_layers
from hybatch.models.lora.updates import add_updates
from hybatch.processes import rank, sum_over_processes, world_size
from hybatch.training.step.batches import BatchLoader, equally_many_chunks
from hybatch.training.step.caching import cached_backward, plain_backward
from hybatch.training.step.chunks import Cutting
from hybatch.training.step.guide import GuideTable
from hybatch.training.step.optimizer import build_adamw
from hybatch.training.strategy import PreparedEngine, Strategy, build_strategy
from hybatch.training.strategy.deepspeed.options import engine_options
from hybatch.training.strategy.deepspeed.zero import import_deepspeed
from hybatch.training.strategy.text_chunk import Features
from tests.training.tiny import VOCABULARY, TinySampler, tokenize, translating_sampler

BATCH_SIZE = 12
LEARNING_RATE = 1e-2
STEPS = 3
OWN_MARGIN = 0.2549
"""No score of the steps is as near this limit as two ways to train may differ (test_equality says how near)."""


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
        aligned: whether queries and translations are brought together, in batches of questions and of translations.
        several: what is made of several positives, two at most; without it each query has one.
        filtered: by whose scores candidates are kept out that score above the positive plus `margin`, or None.
        taught: the kind of the term that brings scores to a teacher's, or None.
        dimensions: the leading dimensions that are trained, by their weights, or None.
        encoder: the tiny one, or one of transformers' layers, with padding or without.
        lora: whether its layers are frozen and updates of low rank learn beside them; of the tiny one all else learns.
    """

    cached: bool = False
    dropout: float = 0.0
    max_norm: float | None = None
    aligned: bool = False
    several: Form | None = None
    filtered: Literal["self", "guide"] | None = None
    taught: str | None = None
    margin: float = OWN_MARGIN
    dimensions: tuple[tuple[int, float], ...] | None = None
    encoder: Literal["tiny", "padded", "unpadded"] = "tiny"
    lora: bool = False

    def cutting(self, strategy: Strategy) -> Cutting:
        """Half a process's queries at once. With dropout plain and cached steps must draw for the same chunks.

        Without padding chunks are cut by tokens, so that the processes have to agree on their number.
        """
        chunked = self.cached or self.dropout > 0
        if self.encoder == "unpadded":
            tokens = 24 if chunked else None
            return Cutting(chunk_tokens=tokens, is_padded=False, equal_chunks=strategy.equal_chunks)
        size = -(-BATCH_SIZE // (2 * world_size())) if chunked else None
        return Cutting(chunk_size=size, equal_chunks=strategy.equal_chunks)

    def build_encoder(self) -> nn.Module:
        if self.encoder == "tiny":
            tiny = TinyTransformer(dropout=self.dropout)
            if self.lora:
                names = [f"{layer}.{name}" for layer in range(2) for name in ("projections", "out", "widen")]
                put_updates(tiny.layers, names, dropout=self.dropout)
            return tiny.train()
        assert not self.dropout
        # No biases where the gradient would be 0; windows narrower than the longer texts.
        options = {"local_attention": 6, "layer_types": ["sliding_attention", "full_attention"]}
        fresh = FreshBackboneConfig(
            architecture="modernbert", width=12, layers=2, heads=2, intermediate_size=16, dropout=0.0, options=options
        )
        torch.manual_seed(0)
        made = fresh_backbone(fresh, vocabulary_size=VOCABULARY, max_positions=32, attn_implementation=None)
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        if self.lora:
            put_updates(made, target_layers(made, "auto", set()))
        unpad: Literal["always", "never"] = "always" if self.encoder == "unpadded" else "never"
        config = EncoderConfig(backbone="tiny", pooling="mean", unpad=unpad)
        return Encoder(config, made, None).train()  # type: ignore[arg-type]

    @property
    def ring(self) -> bool:
        """Of the clipped cells one cached and one plain."""
        return self.max_norm is not None and self.cached != bool(self.dropout)

    def build_loss(self) -> ContrastiveLoss:
        """Batches as small as these would be dense by default: the cached cells stream, and the ring does."""
        alignment = AlignmentConfig(kind="jsd" if self.max_norm is None else "kl") if self.aligned else None
        implementation: Implementation = "streaming" if self.cached else "dense"
        return ContrastiveLoss(
            temperature=0.05,
            symmetric=True,
            implementation="auto" if self.ring else implementation,
            gather="ring" if self.ring else "all",
            positives=self.several or "mean",
            alignment=alignment,
            filter=self.filter,
            teacher=None if self.taught is None else TeacherConfig(kind=self.taught, weight=0.3, temperature=2.0),
            dimensions=None if self.dimensions is None else dict(self.dimensions),
        )

    @property
    def has_terms(self) -> bool:
        return self.aligned or any(of is not None for of in (self.filtered, self.taught, self.dimensions))

    @property
    def filter(self) -> FilterConfig | None:
        return None if self.filtered is None else FilterConfig(by=self.filtered, margin=self.margin)


CELLS = [Cell(cached, dropout, norm) for dropout in (0.0, 0.3) for norm in (None, 0.05) for cached in (False, True)]
NESTED = ((12, 1.0), (4, 0.5))
CELLS += [Cell(aligned=True), Cell(cached=True, max_norm=0.05, aligned=True, dimensions=NESTED)]
CELLS += [Cell(several="mean"), Cell(cached=True, max_norm=0.05, several="log-sum")]
CELLS += [
    Cell(cached=True, filtered="self", taught="kl"),
    Cell(cached=True, max_norm=0.05, filtered="guide", taught="margin-mse"),
]
CELLS += [Cell(encoder="unpadded"), Cell(cached=True, max_norm=0.05, encoder="unpadded")]
CELLS += [Cell(cached=True, max_norm=0.05, encoder="unpadded", lora=True)]


def put_updates(module: Any, layers: Sequence[str], dropout: float = 0.0) -> None:
    """Freeze a module, and put updates into it that do not start from 0, so that all of them have a gradient."""
    add_updates(module, LoraConfig(rank=3, dropout=dropout), layers)
    for parameter in module.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)


class WordGuide(GuideTable):
    """A guide that needs no model: its vector of a text is made of the text's bytes alone."""

    def __init__(self) -> None: ...

    def vectors(self, texts: Sequence[str], role: Role) -> NDArray[np.float32]:
        made = [np.random.default_rng(list(f"{role} {text}".encode())).normal(size=7) for text in texts]
        return np.array([row / np.linalg.norm(row) for row in made], dtype=np.float32).reshape(-1, 7)


def tiny_strategy(name: str, cell: Cell | None = None, **zero: Any) -> Strategy:
    """The cell's fresh encoder under a strategy; "-offload" after the name puts DeepSpeed's states on the CPU."""
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
        (cell or Cell()).build_encoder(),
        build_optimizer,
        prepared=PreparedEngine("", world_size(), {}, {}),
        deepspeed_options=options,
        autocast_dtype=None,
    )


def tiny_loader(strategy: Strategy, cell: Cell) -> BatchLoader:
    several = cell.several is not None
    sampler: Any = TinySampler(batch_size=BATCH_SIZE, num_groups=20, num_negatives=2, several_positives=several)
    if cell.aligned:
        sampler = translating_sampler(batch_size=BATCH_SIZE)
    return BatchLoader(
        sampler=sampler,
        tokenize=tokenize,
        rank=rank(),
        world_size=world_size(),
        cutting=cell.cutting(strategy),
        hard_negatives=2,
        positives=2,
        translations=cell.aligned,
        guide=WordGuide() if cell.filtered == "guide" else None,
        scores=cell.taught is not None,
        has_terms=cell.has_terms,
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
    loader = tiny_loader(strategy, cell)
    losses, norms = [], []
    gradients = {}
    for step in steps:
        local = equally_many_chunks(loader.load(step)) if strategy.equal_chunks else loader.load(step)
        value = (cached_backward if cell.cached else plain_backward)(strategy, loss, local).loss
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
        strategy = tiny_strategy(name, cell)
        results.append((*train_steps(strategy, cell, range(STEPS)), strategy.state_dict()))
    return results
