"""A tiny encoder and sampler, so that the training engine is tested without backbones, tokenizers and corpora."""

from __future__ import annotations

import math
import zlib
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybatch.sampling import BatchSampler, BatchTexts, GlobalBatch
from hybatch.sampling.keyed import Int64Array
from hybatch.training.strategy.text_chunk import Features
from tests.sampling.corpora import ragged_corpus, sampler_of

VOCABULARY = 97


class TinyEncoder(nn.Module):
    """Embeds words, mixes them with a layer that has biases, a norm and dropout, averages over the words."""

    def __init__(self, *, width: int = 12, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.words = nn.Embedding(VOCABULARY, width)
        self.norm = nn.LayerNorm(width)
        layers = (nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width))
        self.mix = nn.Sequential(*layers)

    def forward(self, features: Features) -> Tensor:
        mask = features["attention_mask"].unsqueeze(-1).float()
        words = self.words(features["input_ids"])
        mixed = self.norm(words + self.mix(words))
        return F.normalize((mixed * mask).sum(1) / mask.sum(1), dim=-1)


def tokenize(texts: list[str], role: Literal["query", "passage"]) -> Features:
    ids = [[zlib.crc32(f"{role} {word}".encode()) % VOCABULARY for word in text.split()] for text in texts]
    longest = max(map(len, ids))
    return {
        "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in ids]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
    }


class TinySampler:
    """Random texts of uneven length, some passage groups, hard negatives of known, unknown and missing kind, scores
    of most."""

    seed = 0

    def __init__(
        self, *, batch_size: int = 8, num_groups: int = 1000, num_negatives: int = 0, several_positives: bool = False
    ) -> None:
        self.batch_size = batch_size
        self.num_groups = num_groups
        self.num_negatives = num_negatives
        self.corpora = [TinyPositives(has_positives=several_positives)]

    def batch(self, step: int) -> GlobalBatch:
        generator = np.random.default_rng([step, 1])
        zeros = np.zeros(self.batch_size, dtype=np.int64)
        return GlobalBatch(
            step=step,
            kind="x-y",
            dataset=0,
            language=None,
            examples=generator.integers(0, 10**6, self.batch_size),
            question_languages=zeros,
            passage_languages=zeros,
            passage_groups=generator.integers(0, self.num_groups, self.batch_size),
            displaced=0,
            spilled=0,
        )

    def texts(self, batch: GlobalBatch, rows: slice | None = None) -> BatchTexts:
        examples = batch.examples[rows or slice(None)].tolist()
        negatives = [[_text(e, f"n{k}") for k in range(e % (self.num_negatives + 2))] for e in examples]
        counted = zip(examples, map(len, negatives), strict=True)
        groups = [[(e + k) % self.num_groups - 1 for k in range(count)] for e, count in counted]
        return BatchTexts(
            questions=[_text(e, "q") for e in examples],
            passages=[_text(e, "p") for e in examples],
            hard_negatives=negatives,
            hard_negative_groups=groups,
            scores=[[score_of(e + k) for k in range(1 + len(own))] for e, own in zip(examples, negatives, strict=True)],
        )


class TinyPositives:
    """One to three positives an example, scored, as a corpus gives them; the first is the passage."""

    def __init__(self, *, has_positives: bool) -> None:
        self.has_positives = has_positives

    def ids(self, examples: Int64Array) -> list[str]:
        return [f"id-{example}" for example in examples.tolist()]

    def positive_counts(self, examples: Int64Array, language_indices: Int64Array) -> Int64Array:
        return 1 + examples % 3

    def positives(self, examples: Int64Array, language_indices: Int64Array) -> list[list[tuple[str, float]]]:
        return [
            [(_text(example, "p" * (k + 1)), float(k + 1)) for k in range(1 + example % 3)]
            for example in examples.tolist()
        ]


def score_of(number: int) -> float:
    """One in five is missing."""
    return math.nan if number % 5 == 0 else number % 7 - 3.0


def _text(example: int, role: str) -> str:
    length = 1 + zlib.crc32(f"{example} {role}".encode()) % 9
    return " ".join(f"w{(example * 31 + 7 * i + len(role)) % 50}" for i in range(length))


def translating_sampler(*, batch_size: int) -> BatchSampler:
    """Batches of several kinds, translations of passages among them, of queries that often have no translation."""
    corpus = ragged_corpus(150, ("ar", "de", "en"), seed=3)
    corpus.has_hard_negatives = True
    mixture = {"x-y": 0.4, "x-x": 0.2, "bitext": 0.4}
    return sampler_of(corpus, mixture=mixture, batch_size=batch_size, total_steps=20, seed=1)


def gradients(module: nn.Module) -> dict[str, Any]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
